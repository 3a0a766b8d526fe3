"""Records of several labels, of folders of frames and out of tars: from a list to what its examples hold."""

import json

import numpy as np
import pytest
import tensorflow as tf
from video_files import DATA, write_frames, write_tar, write_video

from keras_nonlocal.data.records import plan, report, split
from keras_nonlocal.data.video import examples, lists, reader
from keras_nonlocal.errors import UserError

CHARADES = """id,subject,script,actions,length
AAAAA,S1,"He sits, then eats.",c000 0.00 0.20;c002 0.08 9.00;c000 0.30 0.30,0.40
BBBBB,S2,Nothing.,,0.40
CCCCC,S2,Late.,c001 5.00 9.00,0.40
"""


def write(list_text, videos, out, list_format=None, split_name="train", **options):
    """What prepare_videos does: the report, and the examples by their `clip/data_path`."""
    path = out.parent / f"{out.name}.txt"
    path.write_text(list_text)
    listed, labels = lists.read_list(path if list_text else None, str(videos), split_name, None, list_format)
    planned = plan.Plan(split_name, listed, labels, examples.VideoExamples(str(videos), **options), shards=1)
    found = split.write(planned, str(out), workers=1)
    records = tf.data.TFRecordDataset(str(out / f"{split_name}-00000-of-00001.tfrecord"))
    parsed = [tf.train.SequenceExample.FromString(record.numpy()) for record in records]
    return found, {e.context.feature["clip/data_path"].bytes_list.value[0].decode(): e for e in parsed}, planned


def context(example, name):
    """The values of a feature, which must be there."""
    feature = example.context.feature[f"clip/{name}"]
    return list(getattr(feature, feature.WhichOneof("kind")).value)


def actions(example):
    return list(zip(*(context(example, f"action/{name}") for name in ("index", "first", "last")), strict=True))


def jpegs(example):
    return [f.bytes_list.value[0] for f in example.feature_lists.feature_list["image/encoded"].feature]


@pytest.fixture
def clips(tmp_path):
    """Three clips of 10 frames at 25 a second, 64x48."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, name in enumerate(("AAAAA", "BBBBB", "CCCCC")):
        write_video(folder / f"{name}.mp4", np.full((10, 48, 64, 3), 60 * number, np.uint8))
    return folder


def test_labels_with_times_at_the_rate_of_the_video(clips, tmp_path):
    found, records, _ = write(CHARADES, clips, tmp_path / "out")
    a, b, c = (records[f"{name}.mp4"] for name in ("AAAAA", "BBBBB", "CCCCC"))
    assert (context(a, "label/index"), context(a, "label/string")) == ([0, 2], [b"c000", b"c002"])
    # At 25 a second, 0.2 s is frame 5, 0.08 s frame 2, and 0.3 s is between two.
    assert actions(a) == [(0, 0, 5), (2, 2, 9)]
    assert (context(b, "label/index"), context(b, "label/string"), actions(b)) == ([], [], [])
    assert (context(c, "label/index"), actions(c)) == ([1], [])
    assert found["labels"] == {"c000": 1, "c001": 1, "c002": 1} and found["frames"] == 30


def test_labels_without_times_have_no_actions(clips, tmp_path):
    _, records, _ = write("AAAAA.mp4 2 0\nBBBBB.mp4 1\n", clips, tmp_path / "out", "path_labels")
    assert context(records["AAAAA.mp4"], "label/index") == [0, 2] and context(records["BBBBB.mp4"], "label/index") == [
        1
    ]
    assert "clip/action/index" not in records["AAAAA.mp4"].context.feature


def test_frames_of_folders_are_stored_as_they_are(tmp_path):
    videos = tmp_path / "videos"
    write_frames(videos / "AAAAA", 10)
    write_frames(videos / "BBBBB", 2, height=480, width=640)
    found, records, _ = write(CHARADES, videos, tmp_path / "out", short_side=96)
    a, b = records["AAAAA"], records["BBBBB"]
    files = sorted((videos / "AAAAA").iterdir())
    assert jpegs(a) == [path.read_bytes() for path in files]
    # At 24 a second, 0.2 s lies between frames 4 and 5.
    assert actions(a) == [(0, 0, 4), (2, 2, 9)]
    assert [tf.io.decode_jpeg(frame).shape for frame in jpegs(b)] == [(96, 128, 3)] * 2
    assert b.context.feature["image/width"].int64_list.value[0] == 128
    assert a.context.feature["image/frame_rate"].float_list.value[0] == 24.0
    assert (found["frames"], found["missing"], len(found["bad"])) == (12, 1, 1)
    _, records, _ = write(CHARADES, videos, tmp_path / "slow", frame_rate=10.0)
    assert actions(records["AAAAA"]) == [(0, 0, 2), (2, 1, 9), (0, 3, 3)]


def test_frame_lists_and_parts_of_folders(tmp_path):
    videos = tmp_path / "videos"
    write_frames(videos / "AAAAA", 4)
    lines = [f'AAAAA 0 {i} AAAAA/AAAAA-{i + 1:06d}.jpg "{labels}"' for i, labels in enumerate(("0,2", "2", "", "2"))]
    header = "original_vido_id video_id frame_id path labels\n"
    _, records, _ = write(header + "\n".join(lines) + "\n", videos, tmp_path / "out")
    assert actions(records["AAAAA"]) == [(0, 0, 0), (2, 0, 1), (2, 3, 3)] and len(jpegs(records["AAAAA"])) == 4
    write_frames(videos / "m", 6, "img_{number:05d}.jpg")
    text = "m 2 3 1\n"
    found, records, _ = write(text, videos, tmp_path / "part", "path_start_frames_labels")
    assert jpegs(records["m"]) == [(videos / "m" / f"img_0000{n}.jpg").read_bytes() for n in (3, 4, 5)]
    assert found["frames"] == 3
    found, _, _ = write("m 5 3 1\n", videos, tmp_path / "long", "path_start_frames_labels")
    assert found["bad"][0]["reason"].startswith("has 1 frames from frame 5 on and its list says 3")


def test_tars_give_the_same_examples_as_the_folder_they_are_of(clips, tmp_path):
    write_frames(clips / "DDDDD", 3)
    text = CHARADES + "DDDDD,S2,x,c002 0 1,1\nEEEEE,S2,x,,\n"
    members = {f"all/{path.relative_to(clips)}": path.read_bytes() for path in sorted(clips.rglob("*.*"), reverse=True)}
    write_tar(tmp_path / "all.tar", members)
    loose, expected, _ = write(text, clips, tmp_path / "loose")
    found, records, _ = write(text, tmp_path / "all.tar", tmp_path / "out")
    assert sorted(records) == [f"all/{path}" for path in sorted(expected)]
    for path, example in expected.items():
        other = records[f"all/{path}"]
        assert jpegs(other) == jpegs(example)
        assert (context(other, "label/index"), actions(other)) == (context(example, "label/index"), actions(example))
    assert (found["missing"], len(found["bad"])) == (loose["missing"], len(loose["bad"])) == (1, 1)


def test_a_bad_video_in_a_tar_is_looked_at_again_when_the_tar_changes(tmp_path):
    tar = tmp_path / "x.tar"
    whole = (DATA / "h264_50_frames.mp4").read_bytes()
    write_tar(tar, {"a.mp4": b"nonsense" * 600, "b.mp4": whole})
    found, records, _ = write("a.mp4 0\nb.mp4 1\n", tar, tmp_path / "out")
    assert found["bad"][0]["path"] == f"{tar}/a.mp4" and found["bad"][0]["reason"].startswith("is not a video")
    assert found["missing"] == 0 and list(records) == ["b.mp4"]
    write_tar(tar, {"a.mp4": whole, "b.mp4": whole})
    found, records, _ = write("a.mp4 0\nb.mp4 1\n", tar, tmp_path / "out")
    assert found["bad"] == [] and sorted(records) == ["a.mp4", "b.mp4"]


def test_what_was_used_is_listed_beside_the_records(clips, tmp_path):
    (clips / "BBBBB.mp4").unlink()
    (clips / "CCCCC.mp4").write_bytes(b"nonsense")
    found, _, planned = write(CHARADES, clips, tmp_path / "out")
    assert (tmp_path / "out" / "train-used.txt").read_text() == "AAAAA\n"
    assert (found["written"], found["missing"], len(found["bad"])) == (1, 1, 2)
    assert json.loads((tmp_path / "out" / "train-report.json").read_text())["missing"] == 1
    printed = report.summary(found, planned, str(tmp_path / "out"))
    assert "2 are bad, 1 of them missing: the report says why" in printed and "out/train-used.txt" in printed


def test_other_annotations_are_another_plan(clips, tmp_path):
    write(CHARADES, clips, tmp_path / "out")
    with pytest.raises(UserError, match="the list of videos differs: 3 then, 3 now"):
        write(CHARADES.replace("0.08 9.00", "0.09 9.00"), clips, tmp_path / "out")
    with pytest.raises(UserError, match="frame_rate was its default and is 30.0"):
        write(CHARADES, clips, tmp_path / "out", frame_rate=30.0)
    with pytest.raises(UserError, match="--frame_rate must be above 0"):
        examples.VideoExamples("x", frame_rate=0.0)


def test_a_frame_replaced_in_a_bad_folder_is_noticed(tmp_path):
    videos = tmp_path / "videos"
    write_frames(videos / "AAAAA", 3)
    good = (videos / "AAAAA" / "AAAAA-000002.jpg").read_bytes()
    (videos / "AAAAA" / "AAAAA-000002.jpg").write_bytes(good[:300])
    found, _, _ = write(CHARADES, videos, tmp_path / "out")
    assert "AAAAA-000002.jpg is no whole JPEG (300 bytes)" in " ".join(bad["reason"] for bad in found["bad"])
    (videos / "AAAAA" / "AAAAA-000002.jpg").write_bytes(good)
    assert write(CHARADES, videos, tmp_path / "out")[0]["written"] == 1


def test_times_need_a_rate(clips, tmp_path, monkeypatch):
    class NoRate(reader.VideoReader):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.frame_rate = 0.0

    monkeypatch.setattr(reader, "VideoReader", NoRate)
    found, records, _ = write(CHARADES, clips, tmp_path / "out")
    assert list(records) == ["BBBBB.mp4"]  # which has no action
    assert {bad["name"] for bad in found["bad"]} == {"AAAAA", "CCCCC"}
    assert found["bad"][0]["reason"].startswith("states no frame rate")
