"""The commands of docs/coco_data.md, run as they stand there on small files in the places they name."""

import json
import pathlib
import re
import shlex
import subprocess

import pytest
from coco_files import CATEGORIES, KITE, Folder

from keras_nonlocal import processes
from keras_nonlocal.data.coco import objects
from keras_nonlocal.data.coco.examples import CocoExamples

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs/coco_data.md").read_text()
COMMANDS = re.findall(r"^    (keras-nonlocal prepare_coco (?:.*\\\n)*.*)$", PAGE, re.M)


def flag(command, name):
    return re.search(rf"--{name}=(\S+)", command)[1]


def test_the_page_has_commands_and_what_reports_hold():
    assert len(COMMANDS) == 5
    told = set(re.findall(r"`(\w+)`", PAGE))
    assert told >= {"left_out", *CocoExamples.totals} - {"objects"}
    sources = "".join(path.read_text() for path in pathlib.Path(objects.__file__).parent.glob("*.py"))
    kinds = set(re.findall(r'(?:BadObject|BadMask)\(\s*"(\w+)"', sources)) | {objects.HARMLESS}
    assert len(kinds) > 9 and kinds <= told


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path):
    for number, command in enumerate(COMMANDS):
        data = tmp_path / str(number)
        data.mkdir()
        folder = Folder(data, CATEGORIES)
        for image in (5, 6):
            folder.image(image, f"{image}.jpg")
        folder.annotate(KITE, {**KITE, "id": 8, "category_id": 1, "keypoints": [12, 8, 2] * 3})
        images, annotations = (tmp_path / flag(command, name) for name in ("images", "annotations"))
        for path in (images, annotations):
            path.parent.mkdir(parents=True, exist_ok=True)
        if not images.exists():
            folder.images.rename(images)
        annotations.write_text(json.dumps(folder.content))
        arguments = [*shlex.split(command.replace("\\\n", ""))[1:], "--shards=2", "--workers=1"]
        done = subprocess.run(processes.command(*arguments), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "2 of 2 images are good, 2 objects, 0 crowds, 1 negatives, 0 clipped" in done.stdout
        split, names = flag(command, "split"), [path.name for path in (tmp_path / flag(command, "out")).iterdir()]
        expected = ("check-1.png", "check.json") if "--check" in command else ("00001-of-00002.tfrecord", "report.json")
        assert {f"{split}-{name}" for name in expected} <= set(names)
        assert ("labels.txt" in names) == ("--check" not in command)
