"""The commands of docs/video_data.md, run as they stand there on small files in the places they name."""

import pathlib
import re
import shlex
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from video_files import write_frames, write_tar, write_video

from keras_nonlocal import processes

ROOT = pathlib.Path(__file__).parent.parent
COMMANDS = re.findall(
    r"^    (keras-nonlocal prepare_videos (?:.*\\\n)*.*)$", (ROOT / "docs/video_data.md").read_text(), re.M
)
KINETICS = "label,youtube_id,time_start,time_end,split\n"
CHARADES = "id,subject,actions,length\nAAAAA,S1,c000 0.00 0.10;c001 0.05 9.00,0.2\nBBBBB,S1,,0.2\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two small videos for each command."""
    folder = tmp_path_factory.mktemp("data")

    def video(path):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / path, np.full((4, 48, 64, 3), 99, np.uint8))
        return (folder / path).read_bytes()

    def text(path, content):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)

    text("k400/train.csv", KINETICS + '"air drumming",-a_b,1,11,train\nzumba,x,0,10,train\n')
    video("k400/train/-a_b_000001_000011.mp4")
    video("k400/replacement/replacement_for_corrupted_k400/x_000000_000010.mp4")
    text("k400/val.csv", KINETICS + "air drumming,v,1,11,val\nzumba,w,0,10,val\n")
    (folder / "k400/val").mkdir()
    for number, name in enumerate(("v_000001_000011", "w_000000_000010")):
        write_tar(folder / f"k400/val/part_{number}.tar", {f"val/{name}.mp4": video(f"unused/{name}.mp4")})
    text("Charades/Charades_v1_train.csv", CHARADES)
    text("Charades/Charades_v1_test.csv", CHARADES)
    text("Charades/Charades_v1_classes.txt", "c000 Holding some clothes\nc001 Putting clothes somewhere\n")
    for name in ("AAAAA", "BBBBB"):
        video(f"Charades_v1/{name}.mp4")
        write_frames(folder / f"Charades_v1_rgb/{name}", 4)
        write_frames(folder / f"rawframes/{name}", 4, "img_{number:05d}.jpg")
    members = {str(path.relative_to(folder)): path.read_bytes() for path in (folder / "Charades_v1_rgb").rglob("*.jpg")}
    write_tar(folder / "Charades_v1_rgb.tar", members)
    rows = [f'{name} 0 {i} {name}/{name}-{i + 1:06d}.jpg "{i}"\n' for name in ("AAAAA", "BBBBB") for i in range(4)]
    text("frame_lists/val.csv", "original_vido_id video_id frame_id path labels\n" + "".join(rows))
    text("slowfast/train.csv", "a b.mp4 0\nc.mp4 1\n")
    text("mine.csv", "path,label\na b.mp4,run\nc.mp4,walk\n")
    text("mmaction2/train_rawframes.txt", "AAAAA 4 0\nBBBBB 4 1\n")
    for path in ("my_videos/a b.mp4", "my_videos/c.mp4", "classes/run/1.mp4", "classes/walk/1.mp4"):
        data = video(path)
    (folder / "shards").mkdir()
    for number in range(2):
        write_tar(folder / f"shards/train-{number:06d}.tar", {f"{number}.mp4": data, f"{number}.cls": b"%d" % number})
    return folder


def test_the_page_has_commands():
    assert len(COMMANDS) == 10


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: re.search(r"--out=records/(\S+)", command)[1])
def test_a_command_of_the_page(folder, command):
    """In the page's order: a later one may need what an earlier one wrote."""
    arguments = [*shlex.split(command.replace("\\\n", ""))[1:], "--shards=2", "--workers=1"]
    done = subprocess.run(processes.command(*arguments), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 videos are good, 8 frames" in done.stdout
    out, split = (re.search(rf"--{flag}=(\S+)", command)[1] for flag in ("out", "split"))
    paths = sorted((folder / out).glob(f"{split}-*.tfrecord"))
    examples = [tf.train.SequenceExample.FromString(r.numpy()) for r in tf.data.TFRecordDataset(list(map(str, paths)))]
    labels = [tuple(example.context.feature["clip/label/index"].int64_list.value) for example in examples]
    if "frame_lists" in command:
        assert labels == [(0, 1, 2, 3)] * 2
    else:
        assert sorted(labels) == ([(), (0, 1)] if "Charades" in command else [(0,), (1,)])
