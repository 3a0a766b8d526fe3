"""The benchmarks measure real runs, and their bars are decided by arithmetic. No test looks at how fast anything is."""

import importlib
import math
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.serving.local.server import LocalServer

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def module(monkeypatch):
    """Imports a module of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.mark.slow
def test_a_tiny_block_end_to_end(tmp_path):
    out = tmp_path / "block.md"
    command = ["benchmarks/block.py", "--cases=tiny/dot_product", "--only=ours", "--modes=train", "--rounds=2"]
    process = subprocess.run(
        [sys.executable, *command, f"--out={out}"], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert process.returncode == 0, process.stderr
    text = out.read_text()
    assert " ".join(command) in text and "tensorflow 2." in text
    assert re.search(r"\(family \d+, model \d+; .*TF_ENABLE_ONEDNN_OPTS=[01];", text)
    rows = re.findall(r"^\| (ours(?:, dense)?) \| (\S+) \|", text, re.M)
    assert [name for name, _ in rows] == ["ours", "ours, dense"] * 2  # times, then memory
    assert all(math.isfinite(float(number)) and float(number) > 0 for _, number in rows), rows
    assert "DISAGREE" not in text


@pytest.mark.slow
def test_what_a_block_costs_a_detector(tmp_path):
    out = tmp_path / "detectors.md"
    command = ["benchmarks/detectors.py", "--sizes=256x256", "--parts=R50-FPN", "--rounds=2", f"--out={out}"]
    process = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert process.returncode == 0, process.stderr
    text = out.read_text()
    assert "DISAGREE" not in text, "a new block changes nothing"
    assert "tf-models-official 2." in text and re.search(r"CPU time, with the block / plain: \d", text)
    # 16 x 16 queries and 8 x 8 keys of 1024 channels: theta and W_z, phi and g, their products.
    block = 2 * (256 + 64) * 1024 * 512 + 2 * 256 * 64 * 512
    rows = re.findall(r"^\| (.+) \| ([\d.]+) \| [\d.]+ \| ([\d.]+) % \|$", text, re.M)
    assert [name for name, *_ in rows] == [
        "R50", "R50-FPN", "Mask R-CNN, Detectron's box head", "Mask R-CNN, tfm's box head"
    ]  # fmt: skip
    for _, plain, added in rows:
        assert float(added) == pytest.approx(block / float(plain) / 1e7, abs=0.15)
    timed = re.findall(r"^\| (plain|with the block) \| ([\d.]+) ", text, re.M)
    assert [name for name, _ in timed] == ["plain", "with the block"] and all(float(ms) > 0 for _, ms in timed)


def _race(side_by_side, **seconds):
    timings = {name: side_by_side.Timing(value, value, 1.9, 0.0, 7) for name, value in seconds.items()}
    return side_by_side.Race(timings, {}, [], False)


def test_bars_of_time(module):
    cases, side_by_side = module("block_cases"), module("side_by_side")
    names = {"ours": 1.0, "torch, naive": 2.3, "torch, SDPA (convolutions)": 1.7, "torch, SDPA (linear)": 1.5}
    bars = cases.time_bars({("res3/embedded_gaussian", "forward"): _race(side_by_side, **names)})
    found = {(bar.what, bar.asked): (bar.reached, bar.held) for bar in bars if bar.reached is not None}
    assert found == {
        ("res3/embedded_gaussian forward: torch, naive / ours", 2.2): (2.3, True),
        # The faster of the two counts.
        (f"res3/embedded_gaussian forward: {' or '.join(cases.SDPA)} / ours", 1.6): (1.5, False),
    }


def test_a_bar_of_memory_takes_the_smaller_peer(module):
    cases = module("block_cases")
    mib = {"ours": 50.0, "ours, dense": 1000.0, cases.SDPA_CONV: 49.0, cases.SDPA_LINEAR: "out of memory"}
    bars = cases.memory_bars({("large/embedded_gaussian", "train"): mib})
    assert [(bar.asked, bar.held) for bar in bars if bar.reached] == [(6, True), (100, False)]


def test_what_bars_print(module):
    report = module("report")
    bars = [
        report.Bar("a", ">=", 2.2, "x", 2.19),
        report.Bar("b", "<=", 6, " %", 5.0),
        report.Bar("c", ">=", 1, "x", None),
        report.Bar("d", ">=", 1, "x", 4.0, one_core=True),
    ]
    assert report.bars(bars).splitlines() == [
        "1 of 2 held.",
        "",
        "| bar | asked | reached |  |",
        "| --- | ---: | ---: | ---: |",
        "| a | >= 2.2x | 2.19x | **not held** |",
        "| b | <= 6 % | 5 % | held |",
        "| c | >= 1x | - | not measured |",
        "| d | >= 1x | 4x | does not count: one core |",
    ]


def test_the_fraction_of_peak(module):
    cases, side_by_side = module("block_cases"), module("side_by_side")
    flops = cases.necessary_flops(*cases.MATMUL_CASE)
    assert flops == pytest.approx(53.7e9, rel=1e-3)
    # Twice as many operations a second as the block in one product, as many in the others.
    ours = 0.2
    speed = flops / ours
    seconds = {cases._matmul(*sizes).name: 2 * math.prod(sizes) / speed for sizes in cases.MATMULS}
    seconds[cases._matmul(*cases.MATMULS[1]).name] /= 2
    race = _race(side_by_side, **{"ours": ours, "torch, naive": 0.3}, **seconds)
    assert cases.fraction_of_peak(race) == pytest.approx(50)
    # The bar, twice as fast as the peer, is 0.15 s: two thirds of the peak.
    (row,) = cases.needs({cases.MATMUL_CASE: race})
    assert row == [
        "detection/embedded_gaussian forward against torch, naive", "53.7", "100.0", "200.0", "50%", "150.0", "67%"
    ]  # fmt: skip
    assert cases.needs({("res3/embedded_gaussian", "forward"): race}) == []


def test_necessary_operations_of_the_dot_product(module):
    cases = module("block_cases")
    n, channels, inner = 3136, 512, 256
    expected = 2 * (3 * n * channels * inner + n * inner**2 + n * inner * channels)
    assert cases.necessary_flops("res3/dot_product", "forward") == expected
    assert cases.necessary_flops("res3/dot_product", "train") == 3 * expected
    assert cases.necessary_flops("res4/concatenation", "forward") is None


def test_bars_of_convolutions(module):
    convolutions, side_by_side = module("convolutions"), module("side_by_side")
    kinds = (convolutions.KERAS_ON, convolutions.OURS_ON, convolutions.KERAS_OFF, convolutions.OURS_OFF)
    race = _race(side_by_side, **dict(zip(kinds, (1.0, 1.1, 50.0, 2.2), strict=True)))
    bars = convolutions.bars({"demo step, c2d_demo": race, "1x3x3, 64": race})
    assert [(bar.asked, round(bar.reached, 3), bar.held) for bar in bars] == [
        (3.0, 2.0, True), (1.05, 1.1, False), (1.05, 1.1, False)
    ]  # fmt: skip


def test_bars_of_records_are_of_cpu_time(module):
    """Whoever waited for a core has not worked for longer."""
    prepare, side_by_side = module("prepare_cases"), module("side_by_side")
    timings = {
        prepare.OPENCV: side_by_side.Timing(3.0, 3.0, 0.9, 0.0, 7),
        prepare.OURS: side_by_side.Timing(6.0, 6.0, 0.5, 1.5, 7),
    }
    races = {
        "a.mp4": side_by_side.Race(timings, {}, [], True),
        "b.mp4": side_by_side.Race(timings | {"prepare_videos": "out of memory"}, {}, [], False),
    }
    assert [(bar.reached, bar.held) for bar in prepare.bars(races)] == [(pytest.approx(0.9), True), (None, None)]
    assert "| a.mp4 | 1.11 | 1.00 |" in prepare.written(races)


@pytest.mark.slow
def test_records_end_to_end(tmp_path):
    out = tmp_path / "prepare.md"
    command = [sys.executable, "benchmarks/prepare.py", "--files=carphone_pristine.mp4", "--rounds=1", f"--out={out}"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert process.returncode == 0, process.stderr
    text = out.read_text()
    assert "DISAGREE" not in text and len(re.findall(r"^\| (?:OpenCV alone|prepare_videos) \| \d", text, re.M)) == 2


def test_a_contestant_of_convolutions_has_its_own_setting(module):
    convolutions = module("convolutions")
    four = convolutions.contestants("1x3x3, 64")
    assert [one.environment["TF_ENABLE_ONEDNN_OPTS"] for one in four] == ["1", "1", "0", "0"]
    assert [one.arguments["own"] for one in four] == [True, False, True, False]


@pytest.mark.slow
def test_a_convolution_end_to_end(tmp_path):
    out = tmp_path / "convolutions.md"
    command = [sys.executable, "benchmarks/convolutions.py", "--cases=demo 1x3x3", "--rounds=1", f"--out={out}"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert process.returncode == 0, process.stderr
    text = out.read_text()
    assert "DISAGREE" not in text and len(re.findall(r"^\| (?:ours|Keras), oneDNN o\w+ \| \d", text, re.M)) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "row"),
    [
        (["limits.py", "--mib=4", "--queries=256", "--modes=forward", "--rounds=1"], r"\*\*4 MiB, 256 queries\*\*"),
        (["precision.py"], r"\| concatenation \| 4.0 \| bfloat16 \| \de-0\d \|"),
        (["padded.py", "--rounds=1"], r"\| padded, with its sizes \| \S+ \| \d\.\de-0[67] \|"),
    ],
    ids=["limits", "precision", "padded"],
)
def test_other_reports_end_to_end(tmp_path, command, row):
    out = tmp_path / "report.md"
    command = [sys.executable, f"benchmarks/{command[0]}", *command[1:], f"--out={out}"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert process.returncode == 0, process.stderr
    assert re.search(row, out.read_text())


def test_every_bar_has_contestants(module):
    """A bar over a name that nobody has would never be measured, and nobody would notice."""
    cases = module("block_cases")
    for form, mode, peers, shapes in cases.TIME_BARS:
        for shape in shapes:
            names = {one.name for one in cases.contestants(f"{shape}/{form}", mode)}
            assert {cases.OURS, *peers} <= names
    for form, mode, peers, _ in cases.MEMORY_BARS:
        assert {cases.OURS, *peers} <= {one.name for one in cases.contestants(f"large/{form}", mode)}


def test_a_contestant_that_cannot_be_built_is_a_row(module):
    side_by_side, report = module("side_by_side"), module("report")
    race = side_by_side.race([side_by_side.Contestant("nobody", "no_such_module", "X", {})], rounds=1)
    assert race.timings == {"nobody": "ModuleNotFoundError: No module named 'no_such_module'"}
    assert "| nobody | ModuleNotFoundError" in report.times(race)


def test_difference_is_relative_and_forgives_zero_gradients(module):
    difference = module("side_by_side").difference
    reference = {"z": np.full(4, 2.0), "da": np.full(4, 10.0), "db": np.zeros(4)}
    found = difference({"z": np.full(4, 2.2), "da": np.full(4, 10.0), "db": np.full(4, 1e-6)}, reference)
    assert found == pytest.approx({"z": 0.1, "da": 0.0, "db": 1e-4})


def test_a_run_is_disturbed_by_others_only(module):
    timing = module("side_by_side").Timing
    assert timing(0.1, 0.1, cpu_per_wall=1.2, others=0.5, rounds=7).disturbed
    assert not timing(0.1, 0.1, cpu_per_wall=1.2, others=0.0, rounds=7).disturbed  # works on one core by itself
    assert not timing(0.1, 0.1, cpu_per_wall=1.9, others=0.5, rounds=7).disturbed
    assert not timing(0.01, 0.01, cpu_per_wall=1.2, others=0.5, rounds=7).disturbed  # short


class Parity(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2, 3], tf.uint8, name="x")])
    def serve(self, x):
        x = tf.cast(tf.ensure_shape(x, [None, 2, 3]), tf.float32)
        return {"sum": tf.reduce_sum(x, [1, 2]), "x": x}


@pytest.fixture(scope="module")
def parity(tmp_path_factory):
    base = tmp_path_factory.mktemp("parity")
    module = Parity()
    tf.saved_model.save(module, str(base / "1"), signatures=module.serve)
    return base


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_every_reply_of_a_server_is_judged(module, parity, protocol):
    cases, clients = module("serving_cases"), module("serving_clients")
    examples = [np.full([1, 2, 3], value, np.uint8) for value in range(3)]
    answers = [{"sum": 6.0 * example[:, 0, 0], "x": example.astype(np.float32)} for example in examples]
    case = cases.Case("parity", cases.TENSOR, "serving_default", "x", examples, answers)
    with LocalServer(parity, cases.MODEL) as server:
        connect, good, bad = clients.of_protocol(case, server, protocol)
        requests = clients.plan(good, bad, 60, 0.5)
        assert sum(request.answer is None for request in requests) == 30 and requests != good * 20
        replies, wall = clients.drive(connect, requests, clients=4)
        # A server that mixes answers up, one that answers what it should refuse, and one that refuses.
        twisted = [clients.Request(good[0].body, answers[1]), clients.Request(good[0].body, None), bad[0], bad[0]]
        twisted[3] = clients.Request(bad[0].body, answers[0])
        others, _ = clients.drive(connect, twisted, clients=1)
    verdict = clients.judge(requests, replies, connect.func.read)
    assert (verdict.answered, verdict.refused, verdict.wrong, verdict.lost) == (30, 30, 0, 0), verdict
    assert verdict.largest_difference == 0 and 0 < max(reply.seconds for reply in replies) <= wall
    verdict = clients.judge(twisted, others, connect.func.read)
    assert (verdict.answered, verdict.refused, verdict.wrong, verdict.lost) == (0, 1, 3, 0)
    assert "away" in verdict.example
    # Nobody listens any more: that is no refusal.
    replies, _ = clients.drive(connect, good, clients=2)
    verdict = clients.judge(good, replies, connect.func.read)
    assert (verdict.lost, verdict.wrong) == (3, 0) and verdict.example


def test_percentiles_are_in_ms(module):
    assert module("serving_clients").percentiles([n / 1000 for n in range(101)]) == pytest.approx([50, 95, 99])


def test_batches_are_read_from_the_metrics(module):
    text = ':tensorflow:serving:request_count{model_name="a",status="OK"} 48\n# HELP\n' + (
        ":tensorflow:serving:batching_session:wrapped_run_count{} 7\n"
    )
    assert module("serving_servers").RUNS.search(text)[1] == "7"


def test_a_server_that_has_ended_is_a_crash(module):
    command = [sys.executable, "-c", "print(flush=True); input()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()  # it runs, in memory of its own
    server = module("serving_servers").Server("a", process, "http://127.0.0.1:9", "127.0.0.1:9")
    assert not server.has_ended() and server.mib() > 1
    process.communicate(b"\n")
    assert server.has_ended() and math.isnan(server.mib()) and server.batches() is None
    report = module("report")
    assert report.Bar("growth", "<=", 5, " %", 100 * (server.mib() / 400 - 1)).held is False


@pytest.mark.slow
def test_serving_end_to_end(tmp_path):
    out = tmp_path / "serving.md"
    command = ["benchmarks/serving.py", "--requests=60", "--bad=0.2", "--models=non-local", "--local", f"--out={out}"]
    process = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert process.returncode == 0, process.stdout + process.stderr
    text = out.read_text()
    assert "**Answered by the local stand-in" in text and "16 of 16 held." in text
    rows = re.findall(r"^\| (non-local, \w+) \| (in process|rest|grpc) \| 8 \| (\d+) \|", text, re.M)
    assert len(rows) == 6 and all(int(speed) > 0 for *_, speed in rows)
