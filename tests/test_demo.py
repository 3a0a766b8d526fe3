"""The whole demo, as `make demo` runs it."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from keras_nonlocal.demo import stages

ROOT = pathlib.Path(__file__).parent.parent
PICTURES = ("curves.png", "attention.png", "attention_heat.png")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_frames_that_meet_answer_what_others_cannot(tmp_path):
    arguments = [f"--work_dir={tmp_path}", "--seed=0", f"--export_dir={tmp_path / 'same_digit'}"]
    done = subprocess.run(
        [sys.executable, "training/demo.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    accuracy = {
        name: json.loads((tmp_path / "seed0" / name / "test.json").read_text())["accuracy"]
        for name in ("c2d", "non_local_c2d")
    }
    assert accuracy["c2d"] <= 0.65
    assert accuracy["non_local_c2d"] >= 0.80
    assert "| non-local C2D |" in done.stdout
    assert all((tmp_path / "seed0" / name).stat().st_size > 10_000 for name in PICTURES)
    assert (tmp_path / "same_digit" / "1" / "saved_model.pb").exists()


def test_ctrl_c_ends_it_with_one_line(tmp_path):
    # A process in the background ignores SIGINT, and so would those that it starts, unless they are told otherwise.
    code = (
        "import runpy, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "runpy.run_path('training/demo.py', run_name='__main__')"
    )
    arguments = [sys.executable, "-c", code, f"--work_dir={tmp_path}"]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        shown = iter(process.stdout.readline, "")
        assert any("make_demo_clips" in line for line in shown)
        time.sleep(2)  # the line comes before the command, which has begun by then
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "stopped" and "Traceback" not in error


def test_the_time_left_is_told_at_the_pace_of_the_stages_before(capsys):
    now = iter([0, 40, 41, 101])
    begin = stages.Stages({"a": 20, "done": 60, "b": 30, "c": 90}, clock=lambda: next(now)).start
    for stage in ("a", "done", "b", "c"):
        begin(stage)
    assert capsys.readouterr().out.splitlines()[1::2] == [
        "[1/4] a (about 3 min left)",
        "[2/4] done (about 6 min left)",
        "[3/4] b (about 4 min left)",  # "done" took a second: an earlier run had done it
        "[4/4] c (about 3 min left)",
    ]
