"""Prints an LD_LIBRARY_PATH with the FFmpeg 4 that tensorflow-io asks for, out of an OpenCV wheel of its time.

No system of today has that FFmpeg as a package; the libraries in opencv-python-headless 4.5.5.64 are of that version.

    LD_LIBRARY_PATH=$(python tests/with_io/ffmpeg4.py .venv-io/ffmpeg4) python -m pytest tests/with_io
"""

import pathlib
import subprocess
import sys
import zipfile

WHEEL = "opencv-python-headless==4.5.5.64"
NAMES = ("libavformat.so.58", "libavcodec.so.58", "libavutil.so.56", "libswscale.so.5", "libswresample.so.3")


def main(folder):
    links = folder / "links"
    if not links.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={folder}", WHEEL]
        subprocess.run(command, check=True, stdout=sys.stderr)
        zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(folder)
        links.mkdir()
        for name in NAMES:
            stem, _, version = name.partition(".so.")
            (library,) = folder.glob(f"*.libs/{stem}-*.so.{version}.*")
            (links / name).symlink_to(library.resolve())
    print(f"{links.resolve()}:{next(folder.glob('*.libs')).resolve()}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
