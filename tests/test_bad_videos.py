"""Everything that can be wrong with videos and their list at once, as `prepare_videos` meets it in one folder."""

import fcntl
import json
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import tensorflow as tf
from video_files import DATA, FOOTAGE, write_video

from keras_nonlocal import errors, features, processes
from keras_nonlocal.data.video import reader
from keras_nonlocal.demo import clips
from keras_nonlocal.tfm import evaluate
from keras_nonlocal.tfm.scoring import predictions

GREY = np.full((5, 48, 64, 3), 99, np.uint8)
# {name: frames that have to be in its record}
GOOD = {
    "with space.mp4": 5,
    'it\'s "quoted", with a comma.mp4': 5,
    "-starts_with-a_dash.mp4": 5,
    "Фильм \u00fc \u6620\u753b.mp4": 5,
    "one frame.mp4": 1,
    "odd.mp4": 3,
    "ten bits.mp4": 3,
    "variable rate.mkv": 50,
    "one key frame.mp4": 132,
}
# {name: what its reason says}
BAD = {
    "no bytes.mp4": "is empty (0 bytes); download it again",
    "sound.mp4": "is not a video OpenCV can open",
    "av1.mp4": "no frame can be decoded although its header states 16 (codec AV01)",
    "cut.mp4": "only 28 of the 50 frames its header states can be decoded",
    "photo.mp4": "is a picture and no video",
    "not there.mp4": "no such file; download it or take it out of the list",
    "page.mp4": "is not a video OpenCV can open",
}


@pytest.fixture
def prepare(tmp_path):
    """Runs the command on tmp_path / "videos" and list.csv; other flags as given."""
    settings = {"list": str(tmp_path / "list.csv"), "videos": str(tmp_path / "videos"), "split": "train"}
    settings |= {"out": str(tmp_path / "records"), "shards": 3, "workers": 1, "short_side": 96}

    def run(**others):
        # In a process of its own: other modules define flags of the same names.
        command = processes.command("prepare_videos", **(settings | others))
        done = subprocess.run(command, capture_output=True, text=True)
        print(done.stdout)
        if done.returncode:
            assert done.returncode == 1 and "Traceback" not in done.stderr
            raise errors.UserError(done.stderr.splitlines()[-1])

    return run


def write_list(path, names):
    """As a spreadsheet on Windows saves it."""
    cells = ['"{}",{}'.format(name.replace('"', '""'), ("gut", "schön")[i % 2]) for i, name in enumerate(names)]
    path.write_bytes(("\ufeff" + "\r\n".join(["path,label", *cells, ""])).encode())


def test_good_and_bad_ones_in_one_folder(tmp_path, prepare, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in list(GOOD)[:4]:
        write_video(tmp_path / "plain.mp4", GREY)
        (tmp_path / "plain.mp4").rename(videos / name)
    write_video(videos / "one frame.mp4", GREY[:1])
    for name, source in {
        "odd.mp4": DATA / "odd_size.mp4",
        "ten bits.mp4": DATA / "ten_bit.mp4",
        "variable rate.mkv": DATA / "variable_rate.mkv",
        "one key frame.mp4": FOOTAGE / "bigbuckbunny.mp4",
        "sound.mp4": DATA / "sound_only.mp4",
        "av1.mp4": DATA / "av1.mp4",
    }.items():
        shutil.copy(source, videos / name)
    (videos / "no bytes.mp4").touch()
    data = (DATA / "h264_50_frames.mp4").read_bytes()
    (videos / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    (videos / "photo.mp4").write_bytes(cv2.imencode(".jpg", GREY[0])[1].tobytes())
    (videos / "page.mp4").write_bytes(b"<html>404 Not Found</html>")
    names = [*GOOD, *BAD]
    write_list(tmp_path / "list.csv", names)

    with pytest.raises(errors.UserError, match="7 of 16 videos"):
        prepare()
    assert "9 of 16 videos are good" in capsys.readouterr().out
    report = json.loads((tmp_path / "records" / "train-report.json").read_text())
    reasons = {bad["name"]: bad["reason"] for bad in report["bad"]}
    assert reasons.keys() == BAD.keys()
    assert [name for name, says in BAD.items() if says not in reasons[name]] == []
    found = {}
    for record in tf.data.TFRecordDataset(sorted(map(str, (tmp_path / "records").glob("train-*.tfrecord")))):
        example = tf.train.SequenceExample.FromString(record.numpy())
        context = example.context.feature
        name = context[features.DATA_PATH].bytes_list.value[0].decode()
        found[name] = len(example.feature_lists.feature_list[features.ENCODED].feature)
        assert context[features.LABEL_INDEX].int64_list.value == [names.index(name) % 2], name
    assert found == GOOD
    assert (tmp_path / "records" / "labels.txt").read_text() == "gut\nschön\n"
    assert sorted((tmp_path / "records" / "train-used.txt").read_text().splitlines()) == sorted(GOOD)
    with pytest.raises(errors.UserError, match="another run is writing split train in .*; wait for it or stop it"):
        with open(tmp_path / "records" / ".train.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            prepare()


def test_a_full_disk_leaves_no_half_of_a_record(tmp_path, prepare, small_disk):
    videos = tmp_path / "videos"
    videos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (6, 5, 48, 64, 3), np.uint8)
    for number, frames in enumerate(noise):
        write_video(videos / f"{number}.mp4", frames)
    write_list(tmp_path / "list.csv", sorted(path.name for path in videos.iterdir()))
    out = tmp_path / "disk" / "records"
    with pytest.raises(errors.UserError, match=r"cannot be written \(No space left on device\); make room"):
        prepare(out=str(out))
    left = [path.name for path in out.iterdir() if path.name.endswith(".tfrecord") or "tmp" in path.name]
    assert all(sum(1 for _ in tf.data.TFRecordDataset(str(out / name))) == 2 for name in left) and len(left) < 3
    small_disk(4000)
    prepare(out=str(out))
    prepare()
    for path in (tmp_path / "records").glob("*.tfrecord"):
        assert path.read_bytes() == (out / path.name).read_bytes()


def test_a_clip_of_the_demo_that_a_full_disk_takes_no_more_is_named(small_disk, tmp_path):
    (tmp_path / "disk" / "filler").write_bytes(bytes(32_000))
    with pytest.raises(errors.UserError, match="x.mp4 could not be written: make room on the disk, or choose another"):
        clips.write_mp4(
            tmp_path / "disk" / "x.mp4", np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), np.uint8)
        )
    assert not (tmp_path / "disk" / "x.mp4").exists()
    small_disk(4000)
    clips.write_mp4(tmp_path / "disk" / "x.mp4", GREY)
    assert reader.count_frames(tmp_path / "disk" / "x.mp4") == 5


def test_a_full_disk_takes_no_half_of_a_test_s_files(small_disk, tmp_path):
    rng = np.random.default_rng(0)
    labels, names = np.eye(20, dtype=bool)[rng.integers(20, size=400)], np.array([f"v{i:03}" for i in range(400)])
    scored = predictions.Predictions(names, labels, rng.random((400, 20), np.float32), "one_label", None, {})
    scored.save(tmp_path / "p.npz")
    out = tmp_path / "disk" / "test"
    with pytest.raises(
        errors.UserError, match=r"--out_dir .* cannot be written \(.*No space left on device.*\): make room there"
    ):
        evaluate.score_again(str(tmp_path / "p.npz"), str(out))
    assert not (out / "result.json").exists(), "it is written last"
    assert not [path for path in out.iterdir() if "tmp" in path.name]
    assert predictions.load(out / "predictions.npz").score().metrics == scored.score().metrics, "what is there is whole"
    small_disk(4000)
    evaluate.score_again(str(tmp_path / "p.npz"), str(out))
    assert json.loads((out / "result.json").read_text())["accuracy"] == scored.score().metrics["accuracy"]
