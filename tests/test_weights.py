"""Peers' checkpoints: the same numbers as their own code gives, every tensor once, and nothing executed.

The expected outputs were computed by the peers' PyTorch code, see the `meta` of each file. `hostile/` has files that
would run code, use up memory or are broken; its manifest says what each is.
"""

import json
import os
import pathlib
import pickle
import re
import struct
import subprocess
import sys
import types
import zipfile

import keras
import numpy as np
import pytest
import tf_keras
import video_oracle

from keras_nonlocal import errors, models, weights
from keras_nonlocal.models import video_resnet
from keras_nonlocal.tfm import layers as tfm_layers
from keras_nonlocal.tfm.backbones import video_resnet as video_backbones
from keras_nonlocal.weights import saving, sources

DATA = pathlib.Path(__file__).parent / "data" / "weights"
HOSTILE, DIALECTS = DATA / "hostile", DATA / "pickle_dialects"
MANIFEST = json.loads((HOSTILE / "manifest.json").read_text())
LOGITS = {"atol": 1e-4, "rtol": 0}
FEATURES = {"atol": 1e-4, "rtol": 1e-4}
SMALL_PLACES = [("res3", 0), ("res4", 0)]
# The network of `small`.
SMALL_C2D = dict(
    block_counts=(1, 1, 1, 1), width=2, classes=3, stem="slowfast", non_local={"res3": [0], "res4": [0]},
    input_shape=(8, 32, 32, 3),
)  # fmt: skip


def expected(name):
    """The arrays of a file, clips and feature maps with channels last."""
    with np.load(DATA / name, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}

    def is_map(key):
        return key in ("x", "x2", "x_test") or key.startswith("mid/")

    return {key: np.moveaxis(a, 1, -1) if is_map(key) and a.ndim == 5 else a for key, a in arrays.items()}


def as_safetensors(arrays, path):
    """A checkpoint of the tensors that an .npz holds as w/<name>."""
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file({k[2:]: np.ascontiguousarray(a) for k, a in arrays.items() if k.startswith("w/")}, path)
    return path


def endpoints(model):
    last = {"res2": 2, "res3": 3, "res4": 5, "res5": 2}

    def output(stage):
        names = [f"{stage}_{last[stage]}_nonlocal", f"{stage}_{last[stage]}_relu"]
        return next(layer.output for name in names for layer in model.layers if layer.name == name)

    return keras.Model(model.input, [output(stage) for stage in ("res3", "res4", "res5")])


def slowfast_state(network):
    """A network of video_oracle under SlowFast's names, in its layout."""
    state = {}

    def put(name, array):
        state[name] = np.asarray(array, np.float32)

    def norm(name, gamma, beta, mean, variance):
        for part, array in dict(weight=gamma, bias=beta, running_mean=mean, running_var=variance).items():
            put(f"{name}.{part}", array)

    for name, layer in network.items():
        stage, index, part = re.fullmatch(r"res(\d)_(\d+)_(\w+)|.*", name).groups()
        statistics = [layer.get(key) for key in ("gamma", "beta", "mean", "variance")]
        if name == "conv1":
            put("s1.pathway0_stem.conv.weight", layer["kernel"][:, :, None])
            norm("s1.pathway0_stem.bn", *statistics)
        elif name == "pred":
            put("head.projection.weight", layer["kernel"])
            put("head.projection.bias", layer["bias"])
        elif part == "nonlocal":
            block = f"s{stage}.pathway0_nonlocal{index}"
            for linear in ("theta", "phi", "g", "out"):
                put(f"{block}.conv_{linear}.weight", layer[f"{linear}/kernel"].T[:, :, None, None, None])
                put(f"{block}.conv_{linear}.bias", layer[f"{linear}/bias"])
            parts = ("gamma", "beta", "moving_mean", "moving_variance")
            norm(f"{block}.bn", *[layer[f"norm/{key}"] for key in parts])
        else:
            conv = f"s{stage}.pathway0_res{index}.{part.replace('branch2', 'branch2.')}"
            put(f"{conv}.weight", layer["kernel"][:, :, None])
            norm(f"{conv}_bn", *statistics)
    return state


def official_affine_state(network, bias_of_out=True):
    """A network of video_oracle under the official code's names, with scales and shifts for all norms."""
    state = {}

    def put(name, array):
        state[name] = np.asarray(array, np.float32)

    for name, layer in network.items():
        stage, index, part = re.fullmatch(r"res(\d)_(\d+)_(\w+)|.*", name).groups()
        if name == "pred":
            put("pred_w", layer["kernel"])
            put("pred_b", layer["bias"])
        elif part == "nonlocal":
            block = f"nonlocal_conv{stage}_{index}"
            for linear in ("theta", "phi", "g", "out"):
                put(f"{block}_{linear}_w", layer[f"{linear}/kernel"].T[:, :, None, None, None])
                if linear != "out" or bias_of_out:
                    put(f"{block}_{linear}_b", layer[f"{linear}/bias"])
            put(f"{block}_bn_s", layer["norm/gamma"])
            put(f"{block}_bn_b", layer["norm/beta"])
        else:
            put(f"{name}_w", layer["kernel"][:, :, None])
            prefix = "res_conv1" if name == "conv1" else name
            put(f"{prefix}_bn_s", layer["gamma"])
            put(f"{prefix}_bn_b", layer["beta"])
    return state


def configuration(**changes):
    """SlowFast's own text, as it is in a file, with the values of some keys replaced."""
    text = weights.read(DATA / "sf_c2d_nln_8x8_r50.pyth").config
    for name, value in changes.items():
        section, key = name.split("__")
        pattern = rf"(^{section}:\n(?:[ -].*\n)*?  {key}:).*\n(?:   .*\n|  -.*\n)*"
        text, count = re.subn(pattern, rf"\1 {value}\n", text, flags=re.M)
        assert count == 1, name
    return text


def slowfast_file(path, network, text):
    path.write_bytes(pickle.dumps({"model_state": slowfast_state(network), "cfg": text}, 2))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file of SlowFast with two non-local blocks, the network of video_oracle in it, a clip and its logits."""
    rng = np.random.default_rng(0)
    network = video_oracle.random_network(rng, SMALL_PLACES)
    clip = rng.normal(size=(1, 8, 32, 32, 3)).astype("float32")
    path = slowfast_file(tmp_path_factory.mktemp("small") / "small.pyth", network, configuration())
    return types.SimpleNamespace(
        path=path, network=network, clip=clip, logits=video_oracle.logits(network, clip, pad_pool1=1)
    )


def assert_gives(model, clip, logits):
    np.testing.assert_allclose(model(clip), logits, atol=2e-5 * np.abs(logits).max(), rtol=0)


CASES = {
    "official": ("c2_i3d_nln.pkl", "c2_i3d_nln_official_expected.npz", dict(temporal_stride=2)),
    "official_affine": ("c2_i3d_affine.pkl", "c2_i3d_affine_expected.npz", dict(temporal_stride=2)),
    "slowfast_pkl": (
        "c2_i3d_nln.pkl",
        "c2_i3d_nln_expected.npz",
        dict(source="slowfast", pairwise="embedded_gaussian"),
    ),
    "slowfast": ("sf_c2d_nln_8x8_r50.pyth", "sf_c2d_nln_8x8_r50.npz", {}),
    "mmaction2": ("mm_i3d_r50_nl_dot_product.pth", "mm_i3d_r50_nl_dot_product.npz", dict(pairwise="dot_product")),
}


@pytest.mark.parametrize("case", CASES)
def test_the_logits_and_stages_are_the_peers(case):
    file, results, options = CASES[case]
    want = expected(results)
    if "x" not in want or case == "official":
        want["x"] = expected("c2_i3d_nln_expected.npz")["x"]
    model, _ = weights.build(DATA / file, **options)
    logits = want["logits" if "logits" in want else "y"]
    np.testing.assert_allclose(model(want["x"]), logits, **LOGITS)
    maps = [key for key in want if key.startswith("mid/")]
    assert len(maps) == 3
    for key, ours in zip(maps, endpoints(model)(want["x"][:1]), strict=True):
        np.testing.assert_allclose(ours, want[key], **FEATURES, err_msg=key)
    if "x2" in want:
        np.testing.assert_allclose(model(want["x2"]), want["y2"], **LOGITS)


def test_groups_of_a_shorter_clip():
    want = expected("c2_i3d_affine_expected.npz")
    model, _ = weights.build(DATA / "c2_i3d_affine.pkl", temporal_stride=2)
    np.testing.assert_allclose(model(want["x"][:, :8]), want["logits_first8frames"], **LOGITS)


@pytest.mark.parametrize(
    "file, results, options",
    [
        ("c2_i3d_nln.pkl", "c2_i3d_nln_expected.npz", dict(source="slowfast", pairwise="embedded_gaussian")),
        pytest.param("sf_c2d_nln_8x8_r50.pyth", "sf_c2d_nln_8x8_r50.npz", {}, marks=pytest.mark.slow),
    ],
)
def test_the_window_slides_over_larger_crops_as_in_the_peers_test(file, results, options):
    want = expected(results)
    model, _ = weights.build(DATA / file, window=(4, 2, 2), **options)
    np.testing.assert_allclose(model(want["x_test"]), want["y_test"], atol=5e-5, rtol=0)
    logits = keras.Model(model.input, model.get_layer("pred").output)(want["x_test"])
    np.testing.assert_allclose(logits, want["logits_map_test"], **LOGITS)


def test_a_deep_stage_with_places_of_two_digits(tmp_path):
    rng = np.random.default_rng(0)
    network = video_oracle.random_network(rng, [("res4", 2), ("res4", 10)], counts=(1, 1, 11, 1))
    model, report = weights.build(slowfast_file(tmp_path / "deep.pyth", network, configuration()))
    assert report.arguments["block_counts"] == (1, 1, 11, 1) and report.arguments["non_local"] == {"res4": [2, 10]}
    clip = rng.normal(size=(1, 8, 32, 32, 3)).astype("float32")
    assert_gives(model, clip, video_oracle.logits(network, clip, pad_pool1=1))


@pytest.mark.slow
def test_a_resnet_101_with_the_official_places(tmp_path):
    want = expected("sf_i3d_nln_8x8_r101.npz")
    path = as_safetensors(want, tmp_path / "r101.safetensors")
    model, report = weights.build(path, pairwise="embedded_gaussian")
    assert report.arguments["block_counts"] == (3, 4, 23, 3)
    assert report.arguments["non_local"] == {"res3": [1, 3], "res4": [6, 13, 20]}
    np.testing.assert_allclose(model(want["x"]), want["logits"], **LOGITS)


def test_a_gaussian_network_is_told_by_its_tensors(tmp_path):
    want = expected("mm_i3d_r50_nl_gaussian.npz")
    model, report = weights.build(as_safetensors(want, tmp_path / "gaussian.safetensors"))
    assert report.arguments["non_local_block"]["pairwise"] == "gaussian"
    np.testing.assert_allclose(model(want["x"]), want["y"], **LOGITS)
    np.testing.assert_allclose(model(want["x2"]), want["y2"], **LOGITS)


@pytest.mark.parametrize("shape", [(8, 32, 32, 3), (None, None, None, 3)], ids=["static", "dynamic"])
def test_tf_keras_gets_the_same_numbers(shape, small):
    arguments = {key: value for key, value in SMALL_C2D.items() if key not in ("classes", "input_shape")}
    backbone = video_backbones.VideoResNet(shape, **arguments)
    x = tf_keras.layers.GlobalAveragePooling3D()(backbone.output["5"])
    model = tf_keras.Model(backbone.input, tf_keras.layers.Dense(3)(x))
    weights.load(model, small.path)
    assert_gives(model, small.clip, small.logits)


def test_a_backbone_takes_all_but_the_classifier(small):
    arguments = {key: value for key, value in SMALL_C2D.items() if key not in ("classes", "input_shape")}
    report = weights.load(video_backbones.VideoResNet(**arguments), small.path)
    assert report.skipped["head.projection.weight"] == "the model has no classifier"


def test_the_report_accounts_for_every_variable_and_every_tensor(small):
    model = models.C2D(**SMALL_C2D)
    before = [np.array(variable) for variable in model.weights]
    report = weights.load(model, small.path)
    checkpoint = weights.read(small.path)
    assert len(report.rows) == len(model.weights)
    used = [row.tensor for row in report.rows]
    assert sorted(used) == sorted(checkpoint.tensors)
    assert set(report.skipped) == set(checkpoint.skipped)
    assert all(not np.array_equal(old, new) for old, new in zip(before, model.weights, strict=True))
    row = report.rows[0]
    assert (row.variable, row.tensor, row.shape) == ("conv1/kernel", "s1.pathway0_stem.conv.weight", (1, 7, 7, 3, 2))
    assert row.norm == pytest.approx(float(np.linalg.norm(checkpoint.tensors[row.tensor])), rel=1e-6)
    assert checkpoint.sha256 in str(report)
    assert "RGB in [0, 1], (x - [0.45, 0.45, 0.45]) / [0.225, 0.225, 0.225]" in str(report)
    total = f"{len(model.weights)} variables ({model.count_params():,} parameters) from {small.path}, 0 new"
    assert str(report).splitlines()[-1].startswith(total)


REFUSED = {
    "stem": dict(stem="official"),
    "temporal_stride": dict(temporal_stride=8),
    "inflate": dict(inflate="3x1x1"),
    "width": dict(width=6),
    "classes": dict(classes=10),
    "block_counts": dict(block_counts=(1, 1, 2, 1)),
    "non_local": dict(non_local={"res2": [0], "res3": [0]}),
    "pairwise": dict(non_local_block=dict(pairwise="dot_product")),
    "pool_size": dict(non_local_block=dict(pool_size=(1, 1, 1))),
    "pool_before_projection": dict(non_local_block=dict(pool_before_projection=False)),
    "scale": dict(non_local_block=dict(scale=False)),
    "norm": dict(non_local_block=dict(norm=None)),
    "use_bias": dict(non_local_block=dict(use_bias=False)),
    "use_out_bias": dict(non_local_block=dict(use_out_bias=False)),
    "group_frames": dict(group_frames={"res3": 2}),
}


@pytest.mark.parametrize("option", REFUSED)
def test_a_model_that_computes_something_else_is_refused_by_the_options_name(option, small):
    arguments = {**SMALL_C2D, **REFUSED[option]}
    network = models.I3D if "inflate" in arguments else models.C2D
    model = network(**arguments)
    before = [np.array(variable) for variable in model.weights]
    with pytest.raises(weights.CheckpointError, match=f"`{option}`.* must "):
        weights.load(model, small.path)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.weights, strict=True))


@pytest.mark.parametrize(
    "changed, message", [("missing", "it has nothing for res4_0_branch2a_bn/beta"), ("surplus", "nowhere to put")]
)
def test_tensors_that_are_missing_or_too_many(tmp_path, changed, message, small):
    tensors = dict(weights.read(small.path).tensors)
    beta = tensors.pop("s4.pathway0_res0.branch2.a_bn.bias")
    if changed == "surplus":
        tensors |= {"s4.pathway0_res0.branch2.a_bn.bias": beta, "s3.pathway0_res3.branch1.weight": beta}
    path = as_safetensors({f"w/{name}": array for name, array in tensors.items()}, tmp_path / "changed.safetensors")
    with pytest.raises(weights.CheckpointError, match=message):
        weights.load(models.C2D(**SMALL_C2D), path, pairwise="embedded_gaussian")


def test_what_the_file_does_not_tell_is_asked_for_by_name():
    with pytest.raises(weights.CheckpointError, match="give `temporal_stride`"):
        weights.build(DATA / "c2_i3d_nln.pkl")
    with pytest.raises(weights.CheckpointError, match="give `pairwise`"):
        weights.build(DATA / "mm_i3d_r50_nl_dot_product.pth")


@pytest.mark.parametrize("case", [case for case in MANIFEST if case["kind"] != "valid"], ids=lambda case: case["file"])
def test_hostile_files_are_refused_in_one_sentence(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(weights.CheckpointError) as caught:
        weights.read(HOSTILE / case["file"])
    assert case["file"] in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not list(tmp_path.iterdir())


def _text(name):
    return b"\x8c" + bytes([len(name)]) + name


def _array(shape, dtype=b"f4"):
    """A pickle of {"a": array}, the shape and the dtype being instructions and text of the caller's."""
    start = (
        b"\x80\x02}" + _text(b"a") + b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01"
    )
    return start + shape + b"cnumpy\ndtype\n" + _text(dtype) + b"K\x00K\x01\x87R\x89C\x04aaaatbs."


def _tensor(count=b"K\x04", shape=b"K\x04\x85", strides=b"K\x01\x85"):
    """The data.pkl of {"a": tensor}."""
    storage = b"(" + _text(b"storage") + b"ctorch\nFloatStorage\n" + _text(b"0") + _text(b"cpu") + count + b"tQ"
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + strides + b"\x89}tR"
    return b"\x80\x02}" + _text(b"a") + made + b"s."


def _integer(value):
    size = value.bit_length() // 8 + 1
    return b"\x8b" + struct.pack("<i", size) + value.to_bytes(size, "little")


BOMB = b"K\x01" + b"q\x00h\x00\x86" * 60  # a tuple of 2**60 leaves
ORDERED_DICT = b"ccollections\nOrderedDict\n"
# What a program does, as a pickle, or with a zip around it where it is of a tensor.
PROGRAMS = {
    "a bomb as a key": b"\x80\x02}" + BOMB + b"K\x01s.",
    "a bomb as a key of a dict made at once": b"\x80\x02(" + BOMB + b"K\x01d.",
    "a bomb as a key of an ordered dict": b"\x80\x02" + ORDERED_DICT + b"]" + BOMB + b"K\x01\x86a\x85R.",
    "a bomb as a global's name": b"\x80\x04" + _text(b"numpy") + BOMB + b"\x93.",
    "a bomb as a shape": _array(BOMB),
    "a bomb as the shape before the data": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
    + BOMB
    + b"C\x01btR.",
    "a bomb as a byte order": b"\x80\x02cnumpy\ndtype\n" + _text(b"f4") + b"\x85R(K\x03" + BOMB + b"tb.",
    "a bomb as a weight": b"\x80\x02}" + _text(b"a") + BOMB + b"s.",
    "a deep tuple as a key": b"\x80\x02}K\x01" + b"\x85" * 300_000 + b"K\x01s.",
    "a tuple as deep as may be as a key": b"\x80\x02}K\x01" + b"\x85" * 240_000 + b"K\x01s.",
    "a deep tuple as a weight": b"\x80\x02}" + _text(b"a") + b")" + b"\x85" * 240_000 + b"s.",
    "a deep list as a weight": b"\x80\x02}" + _text(b"a") + b"]" * 100_000 + b"a" * 99_999 + b"s.",
    "deep dicts as a weight": b"\x80\x02}" + _text(b"a") + b"}K\x01" * 70_000 + b"}" + b"s" * 70_001 + b".",
    "a list in itself": b"\x80\x02}" + _text(b"a") + b"]q\x00h\x00as.",
    "five million dicts": b"\x80\x02(" + b"}" * 4_900_000 + b"l.",
    "copies of a long list": b"\x80\x02(" + b"]" * 100_000 + b"lq\x00" + b"ctorch\nSize\nh\x00\x85R" * 9_000 + b".",
    "a size of four million bits": _array(_integer(2**4_000_000) + b"\x85"),
    "sizes that overflow": _array(b"K\x00" + _integer(2**62) * 2 + b"\x87"),
    "a size as long text": b"I" + b"9" * 5000 + b"\n.",
    "a dtype in NumPy's language": _array(b"K\x01\x85", b"(2,f4"),
    "a dtype of many fields": _array(b"K\x01\x85", b"f4," * 80),
    "a dtype of a long double": _array(b"K\x01\x85", b"f16"),
    "control characters in a name": b"\x80\x02}" + _text(b"conv1_w\x1b[31m\n") + b"K\x01s.",
    "control characters in a global": b"\x80\x02cos\x1b[31m\nsystem\n.",
    "a tensor with a bomb as its shape": _tensor(shape=BOMB),
    "a tensor with a bomb as its count": _tensor(count=BOMB),
    "a tensor of a count that overflows": _tensor(count=_integer(2**62)),
    "a tensor with a stride that overflows": _tensor(shape=b"K\x01\x85", strides=_integer(2**70) + b"\x85"),
    "an empty tensor of sizes that overflow": _tensor(
        shape=b"K\x00" + _integer(2**62) * 2 + b"\x87", strides=b"K\x01" * 3 + b"\x87"
    ),
}


def test_nothing_takes_time_or_memory(tmp_path):
    """In a process that may take a minute of CPU and 100 MB more than its imports: the faults hung or killed it."""
    paths = [HOSTILE / case["file"] for case in MANIFEST if case["kind"] != "valid"]
    for number, (what, program) in enumerate(PROGRAMS.items()):
        path = tmp_path / f"{number:02} {what}"
        if what.startswith(("a tensor", "an empty tensor")):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a/data.pkl", program)
                archive.writestr("a/data/0", b"a" * 16)
        else:
            path.write_bytes(program)
        paths.append(path)
    program = f"""
import resource
from keras_nonlocal import errors, weights
data = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (data + 100 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + 60,) * 2)
for path in {[str(path) for path in paths]}:
    print(path, flush=True)
    try:
        weights.read(path)
    except errors.UserError as e:
        message = str(e).removeprefix(path)
        assert message.isprintable() and len(message) < 500 and "memory" not in message.lower(), e
    else:
        raise AssertionError(path)
print("refused")
"""
    before = sorted(tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip().endswith("refused"), done.stdout[-200:] + done.stderr[-2000:]
    assert sorted(tmp_path.iterdir()) == before


def test_a_zip_entry_shorter_than_its_tensor_is_refused(tmp_path):
    path = tmp_path / "short.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", _tensor())
        archive.writestr("a/data/0", b"a" * 16)
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 16 : entry + 24] = struct.pack("<II", zipfile.crc32(b"a" * 4), 4)  # 4 bytes, which the sum is of
    path.write_bytes(data)
    with pytest.raises(weights.CheckpointError, match="declared as 4 numbers of float32 and has 4 bytes"):
        weights.read(path)


@pytest.mark.parametrize("case", [case for case in MANIFEST if case["kind"] == "valid"], ids=lambda case: case["file"])
def test_what_torch_writes_is_read(case):
    # Their names are no network's, so the values are taken where they are read.
    from keras_nonlocal.weights import reading

    with np.load(HOSTILE / "valid_torch_expected.npz") as file:
        wanted = {k.split("/")[1]: file[k] for k in file.files if k.startswith(f"{case['file']}/")}
    tensors = reading.read(HOSTILE / case["file"], "slowfast").tensors
    assert wanted and set(tensors) == set(wanted)
    for name, want in wanted.items():
        np.testing.assert_array_equal(np.asarray(tensors[name], want.dtype), want)


@pytest.mark.parametrize("name", sorted(path.name for path in DIALECTS.glob("*.pkl")))
def test_every_dialect_of_pickle_gives_the_same_blobs(name):
    with np.load(DIALECTS / "expected_blobs.npz") as file:
        wanted = {key: file[key] for key in file.files}
    found = weights.read(DIALECTS / name, "official").tensors
    assert set(found) == set(wanted)
    for key, want in wanted.items():
        np.testing.assert_array_equal(found[key], want)


def test_what_a_model_settled_is_in_the_file_that_is_saved(tmp_path, small):
    path = tmp_path / "silent.pyth"
    path.write_bytes(pickle.dumps({"model_state": slowfast_state(small.network)}, 2))
    model, _ = weights.build(path, pairwise="dot_product")
    report = weights.load(model, path)  # whose form nobody says
    saving.save(model, report, tmp_path / "again.safetensors")
    again, _ = weights.build(tmp_path / "again.safetensors")
    assert_gives(again, small.clip, video_oracle.logits(small.network, small.clip, pad_pool1=1, pairwise="dot_product"))
    path.write_bytes(pickle.dumps({"blobs": official_affine_state(small.network)}, 2))
    model, _ = weights.build(path, temporal_stride=8)
    assert weights.load(model, path).arguments["temporal_stride"] == 8


def test_the_affine_form_is_batch_norm_that_stays_as_it_is():
    x = np.random.default_rng(0).normal(size=[2, 4, 32, 32, 3]).astype("float32")
    for package, ours in ((keras, None), (tf_keras, tfm_layers)):
        from keras_nonlocal import layers

        inputs = package.Input(x.shape[1:])
        arguments = dict(block_counts=(1, 1, 1, 1), width=4, non_local={"res3": [0]}, norm_frozen=True)
        model = package.Model(inputs, video_resnet.video_resnet(package, ours or layers, inputs, **arguments)["5"])
        before = [np.array(w) for w in model.weights]
        np.testing.assert_array_equal(model(x, training=True), model(x, training=False))
        assert all(np.array_equal(old, new) for old, new in zip(before, model.weights, strict=True))
        assert model.get_layer("res3_0_nonlocal").norm is None
        assert not [w for w in model.trainable_weights if "_bn" in (getattr(w, "path", None) or w.name)]


def test_the_command_imports_and_its_files_load_again(tmp_path, small):
    root = pathlib.Path(__file__).parent.parent
    command = [sys.executable, "-m", "training.import_weights"]
    out = tmp_path / "c2d.safetensors"
    done = subprocess.run([*command, str(small.path), f"--out={out}"], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "SHA-256" in done.stdout and "Apache-2.0" in done.stdout and f"Wrote {out}" in done.stdout
    assert (tmp_path / "c2d.safetensors.txt").read_text().strip() in done.stdout
    model, report = weights.build(out)
    assert_gives(model, small.clip, small.logits)
    assert report.checkpoint.licence == weights.read(small.path).licence
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c2d.safetensors", "c2d.safetensors.txt"]
    other = tmp_path / "other.keras"
    keras.Sequential([keras.Input([2]), keras.layers.Dense(1)], name="small").save(other)
    done = subprocess.run(
        [*command, str(other), f"--out={tmp_path}/other.weights.h5"], capture_output=True, text=True, cwd=root,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and not done.stdout and not (tmp_path / "other.weights.h5").exists()
    assert line.startswith(f"error: {other}: It is a Keras file of the model 'small', which Keras itself loads")
    assert line.endswith(
        "what is read here is .pkl of the official code, .pyth or .pkl of SlowFast, .pth of mmaction2, or .safetensors "
        "with the names of one of them or our own."
    )


@pytest.mark.parametrize("suffix", saving.SUFFIXES)
def test_a_full_disk_leaves_nothing_and_a_clear_error(suffix, small_disk, tmp_path, small):
    model, report = weights.build(small.path)
    with pytest.raises(errors.UserError, match="--out .* cannot be written .No space left on device.; make room"):
        saving.save(model, report, tmp_path / "disk" / f"c2d{suffix}")
    assert not list((tmp_path / "disk").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(errors.UserError, match="--out .* cannot be written"):
        saving.save(model, report, tmp_path / "file" / f"c2d{suffix}")


LISTS = "\n  - - - 2\n      - 1\n      - 2\n" * 4  # as PyYAML writes them
CONFIGURATIONS = {
    "as it is": ({}, {}),
    "dot product": (dict(NONLOCAL__INSTANTIATION="dot_product"), dict(pairwise="dot_product")),
    "groups": (dict(NONLOCAL__GROUP="[[1], [2], [1], [1]]"), dict(group_frames={"res3": 2})),
    "groups of all": (
        dict(NONLOCAL__GROUP="\n  - - 4\n  - - 4\n  - - 4\n  - - 1"), dict(group_frames={"res3": 1, "res4": 1})
    ),
    "groups of longer clips": (
        dict(NONLOCAL__GROUP="[[1], [2], [1], [1]]", DATA__NUM_FRAMES="4"), dict(group_frames={"res3": 1})
    ),
    "groups of an odd number of frames": (
        dict(NONLOCAL__GROUP="[[1], [2], [1], [1]]", DATA__NUM_FRAMES="9"), dict(group_frames={"res3": 2})
    ),
    "no pooling": (dict(NONLOCAL__POOL=str([[[1, 1, 1]]] * 4)), dict(pool_size=(1, 1, 1))),
    "pooling over time": (dict(NONLOCAL__POOL=LISTS.rstrip()), dict(pool_size=(2, 1, 2))),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_what_slowfasts_configuration_says_is_computed(case, tmp_path, small):
    changes, options = CONFIGURATIONS[case]
    model, _ = weights.build(slowfast_file(tmp_path / "small.pyth", small.network, configuration(**changes)))
    want = video_oracle.logits(small.network, small.clip, pad_pool1=1, **options)
    assert_gives(model, small.clip, want)
    assert case == "as it is" or np.abs(want - small.logits).max() > 1e-3 * np.abs(want).max()


@pytest.fixture(scope="module")
def small_c2d():
    """A model that is only given what it must refuse."""
    return models.C2D(**SMALL_C2D)


NOT_OURS = {
    "MODEL__ARCH": "c2d_nopool",
    "NONLOCAL__INSTANTIATION": "gaussian",
    "NONLOCAL__POOL": "[[[1, 2, 2]], [[1, 1, 1]], [[1, 2, 2]], [[1, 2, 2]]]",
    "NONLOCAL__GROUP": "[[1], [3], [1], [1]]",
    "RESNET__TRANS_FUNC": "basic_transform",
    "RESNET__STRIDE_1X1": "true",
    "RESNET__NUM_GROUPS": "32",
    "RESNET__SPATIAL_STRIDES": "\n  - - 1\n  - - 2\n  - - 2\n  - - 1",
    "RESNET__SPATIAL_DILATIONS": "[[1], [1], [1], [2]]",
    "BN__NORM_TYPE": "sub_batchnorm",
    "DATA__REVERSE_INPUT_CHANNEL": "true",
    "DETECTION__ENABLE": "true",
}


@pytest.mark.parametrize("setting", NOT_OURS)
def test_a_configuration_that_no_network_of_ours_has_is_refused_by_name(setting, tmp_path, small, small_c2d):
    path = slowfast_file(tmp_path / "other.pyth", small.network, configuration(**{setting: NOT_OURS[setting]}))
    for do in (weights.build, lambda path: weights.load(small_c2d, path)):
        with pytest.raises(errors.UserError, match=f"other.pyth: its configuration.*{setting.replace('__', '.')}"):
            do(path)


def test_the_network_below_a_classifier_of_boxes_loads(tmp_path):
    network = video_oracle.random_network(np.random.default_rng(0), [])
    path = slowfast_file(tmp_path / "boxes.pyth", network, configuration(DETECTION__ENABLE="true"))
    model = models.C2D(block_counts=(1, 1, 1, 1), width=2, stem="slowfast", include_top=False)
    assert "head.projection.weight" in weights.load(model, path).skipped


def test_a_classifier_that_ends_otherwise_is_not_averaged(tmp_path):
    network = video_oracle.random_network(np.random.default_rng(0), [])
    path = slowfast_file(tmp_path / "sigmoid.pyth", network, configuration(MODEL__HEAD_ACT="sigmoid"))
    weights.build(path)
    with pytest.raises(weights.CheckpointError, match="HEAD_ACT 'sigmoid'.*leave `window` out"):
        weights.build(path, window=(4, 1, 1))


@pytest.mark.parametrize("bias_of_out", [True, False])
def test_an_affine_inside_the_blocks_is_folded(bias_of_out, tmp_path):
    rng = np.random.default_rng(1)
    network = video_oracle.random_network(rng, SMALL_PLACES)
    for layer in (layer for name, layer in network.items() if name.endswith("nonlocal") and not bias_of_out):
        layer["out/bias"] = np.zeros_like(layer["out/bias"])
    path = tmp_path / "affine.pkl"
    path.write_bytes(pickle.dumps({"blobs": official_affine_state(network, bias_of_out)}, 2))
    x = rng.normal(size=(1, 16, 32, 32, 3)).astype("float32")
    want = video_oracle.logits(network, x, pad_pool1=0, affine=True, group_frames={"res3": 4})
    model, report = weights.build(path, temporal_stride=2)
    assert_gives(model, x, want)
    used = " ".join(row.tensor for row in report.rows)
    assert all(name in used for name in report.checkpoint.tensors)


def test_a_norm_that_has_lost_its_statistics_is_not_taken_for_an_affine(tmp_path):
    network = video_oracle.random_network(np.random.default_rng(0), [])
    state = {name: a for name, a in slowfast_state(network).items() if "running" not in name}
    path = tmp_path / "parameters.pyth"
    path.write_bytes(pickle.dumps({"model_state": state}, 2))
    with pytest.raises(weights.CheckpointError, match="it has nothing for conv1_bn/moving_mean"):
        weights.build(path)
    blobs = dict(weights.read(DATA / "c2_i3d_nln.pkl").tensors)
    blobs = {name: a for name, a in blobs.items() if name not in ("res_conv1_bn_rm", "res_conv1_bn_riv")}
    path.write_bytes(pickle.dumps({"blobs": blobs}, 2))
    with pytest.raises(weights.CheckpointError, match="it has nothing for conv1_bn/moving_mean"):
        weights.build(path, temporal_stride=2)


def test_the_prefix_of_data_parallel_is_taken_off(tmp_path, small):
    state, path = slowfast_state(small.network), tmp_path / "parallel.pyth"
    path.write_bytes(pickle.dumps({"model_state": {f"module.{name}": a for name, a in state.items()}}, 2))
    checkpoint = weights.read(path)
    assert checkpoint.source == "slowfast" and set(checkpoint.tensors) == set(state)
    state["module.head.projection.bias"] = state["head.projection.bias"]
    path.write_bytes(pickle.dumps({"model_state": state}, 2))
    with pytest.raises(weights.CheckpointError, match="'head.projection.bias' is there twice"):
        weights.read(path)


def official_with(**changes):
    state = official_affine_state(video_oracle.random_network(np.random.default_rng(0), []))
    return {**state, **{name: np.zeros(shape, np.float32) for name, shape in changes.items()}}


HUGE = {
    "a vector as the first kernel": lambda: official_with(conv1_w=(20_000,)),
    "a wide first kernel": lambda: official_with(conv1_w=(2_000, 1, 1, 1, 1)),
    "a vector as the classifier": lambda: official_with(pred_w=(300_000,)),
    "many classes": lambda: official_with(pred_w=(300_000, 0)),
    "a number as the first kernel": lambda: official_with(conv1_w=()),
    "an empty first kernel": lambda: official_with(conv1_w=(0, 3, 1, 7, 7)),
    "many blocks": lambda: official_with(**{f"res4_{i}_branch2a_w": (1,) for i in range(3_000)}),
    "a non-local block of vectors": lambda: official_with(nonlocal_conv3_0_g_w=(4,), nonlocal_conv3_0_out_w=(4,)),
}


@pytest.mark.parametrize("case", HUGE)
def test_no_network_is_built_before_its_shapes_are_the_files(case, tmp_path, monkeypatch):
    path = tmp_path / "huge.pkl"
    path.write_bytes(pickle.dumps(HUGE[case](), 2))

    def build(*_, **arguments):
        raise AssertionError(f"was built with {arguments}")

    monkeypatch.setattr(video_resnet, "video_resnet", build)
    with pytest.raises(weights.CheckpointError, match="huge.pkl: "):
        weights.build(path, temporal_stride=2)


LIES = {
    "width": 4000,
    "classes": 10**6,
    "block_counts": [1, 1, 1, 10**9],
    "non_local": {"res3": [0], "res4": [0, 10**9]},
    "stem": ["official"],
    "inflate": {},
    "temporal_stride": 3,
    "norm_frozen": 1,
    "group_frames": {"res3": 2**70},
    "non_local_block": {"pairwise": {}},
    "non_local_block ": {"pool_size": [1, 2, 2], "kernel_initializer": "zeros"},
    "more": 1,
}


@pytest.fixture(scope="module")
def own(tmp_path_factory, small):
    """What a safetensors file of our own says of its network, and its arrays."""
    folder, numpy = tmp_path_factory.mktemp("own"), pytest.importorskip("safetensors.numpy")
    model, report = weights.build(small.path)
    saving.save(model, report, folder / "own.safetensors")
    weights.build(folder / "own.safetensors")
    return report.arguments, numpy.load_file(folder / "own.safetensors")


@pytest.mark.parametrize("key", [*LIES, "text", "deep", "list"])
def test_what_a_file_of_our_own_says_of_itself_is_checked(key, own, tmp_path, monkeypatch):
    numpy = pytest.importorskip("safetensors.numpy")
    arguments, arrays = own
    claim = {**arguments, **({key.strip(): LIES[key]} if key in LIES else {})}
    texts = {"text": "{", "deep": "[" * 100_000, "list": "[]"}
    path = tmp_path / "lie.safetensors"
    numpy.save_file(arrays, path, {"keras_nonlocal": texts.get(key, json.dumps(claim)), "licence": "\x1b[31mfree"})
    assert weights.read(path).licence.isprintable()
    monkeypatch.setattr(video_resnet, "video_resnet", lambda *_, **arguments: pytest.fail(str(arguments)))
    with pytest.raises(errors.UserError, match="lie.safetensors: ") as caught:
        weights.build(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("dtype, size", [("F8_E4M3", 1), ("F8_E5M2", 1), ("C64", 8), ("BF16", 2)])
def test_numbers_that_are_no_weights_in_safetensors(dtype, size, tmp_path):
    pytest.importorskip("safetensors")
    header = json.dumps({"conv1_w": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4 * size]}}).encode()
    path = tmp_path / "other.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\xff" * 4 * size)  # not a number, in bfloat16
    with pytest.raises(errors.UserError, match="other.safetensors: "):
        weights.read(path)


def test_files_of_keras_are_named_and_sent_to_keras(tmp_path):
    """Also those with classes that there are not here, of which nothing is built."""

    @keras.saving.register_keras_serializable("elsewhere")
    class Strange(keras.layers.Dense):
        built_from_files = 0

        @classmethod
        def from_config(cls, config):
            cls.built_from_files += 1
            return super().from_config(config)

    model = keras.Sequential([keras.Input([2]), Strange(1, name="odd")], name="mine")
    old = tf_keras.Sequential([tf_keras.Input([2]), tf_keras.layers.Dense(1, name="even")], name="yours")
    model.save(tmp_path / "a.keras")
    model.save(tmp_path / "a.h5")
    model.save_weights(tmp_path / "a.weights.h5")
    old.save(tmp_path / "b.h5")
    old.save_weights(tmp_path / "b_weights.h5")
    with zipfile.ZipFile(tmp_path / "broken.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"")
        archive.writestr("config.json", b"[" * 100_000)
    phrases = {
        "a.keras": "a Keras file of the model 'mine'",
        "a.h5": "a Keras file of the model 'mine'",
        "a.weights.h5": "an HDF5 file, as Keras writes for weights",
        "b.h5": "a Keras file of the model 'yours'",
        "b_weights.h5": "an HDF5 file, as Keras writes for weights",
        "broken.keras": "a damaged file, or one that Keras has not written",
    }
    for name, phrase in phrases.items():
        with pytest.raises(errors.UserError) as caught:
            weights.read(tmp_path / name)
        assert f"{name}: It is {phrase}, which" in str(caught.value) and "load_weights" in str(caught.value)
    assert not Strange.built_from_files


class MadeUp(sources.source.Source):
    """A source of checkpoints that there is not."""

    name = "made_up"
    title = "a made-up code"
    files = ".made"
    licence = "none"
    pixels = "whatever it likes"
    state_key = "net"
    training_state = {r"steps": "a number of steps"}
    names = ((r"(\w+):(w_f|\w+/kernel|\w+/\w+|\w+)", lambda layer, weight: (layer, weight)),)
    conventions = dict(
        stem="slowfast",
        temporal_stride=2,
        pairwise="dot_product",
        pool_size=(1, 1, 2),
        pool_before_projection=True,
        scale=False,
    )

    def recognises(self, tensors):
        return "conv1:kernel" in tensors


def test_a_new_source_is_one_entry_in_the_table(tmp_path, monkeypatch, small):
    monkeypatch.setitem(sources.SOURCES, "made_up", MadeUp())
    slowfast = sources.SOURCES["slowfast"]
    state = {":".join(slowfast.target(name)): array for name, array in slowfast_state(small.network).items()}
    path = tmp_path / "network.made"
    path.write_bytes(pickle.dumps({"net": {**state, "steps": np.ones(1)}, "cfg": "not SlowFast's"}, 2))
    model, report = weights.build(path)
    want = video_oracle.logits(small.network, small.clip, pad_pool1=1, pairwise="dot_product", pool_size=(1, 1, 2))
    assert_gives(model, small.clip, want)
    assert (report.checkpoint.source, report.checkpoint.licence) == ("made_up", "none")
    assert report.skipped == {"steps": "a number of steps"} and "note: frames: whatever it likes" in report.lines()
    assert ".made of a made-up code" in sources.accepted()
    with pytest.raises(weights.CheckpointError, match="`pool_size` is .1, 2, 2. and must be .1, 1, 2."):
        weights.load(models.C2D(**SMALL_C2D, non_local_block={"pairwise": "dot_product"}), path)


@pytest.mark.parametrize(
    "option, value",
    [
        ("stem", "mine"),
        ("stem", ["official"]),
        ("temporal_stride", 3),
        ("temporal_stride", True),
        ("pairwise", "product"),
        ("pool_size", (1, 2)),
        ("pool_size", 2),
        ("pool_before_projection", 1),
        ("scale", "no"),
        ("group_frames", 4),
        ("group_frames", {"res9": 4}),
        ("group_frames", {"res3": 0}),
        ("width", 64),
    ],
)
def test_options_that_cannot_be_are_named(option, value, small, small_c2d):
    name = "options" if option == "width" else option
    for do in (lambda: weights.load(small_c2d, small.path, **{option: value}),
               lambda: weights.build(small.path, **{option: value}),
               lambda: saving.imported(small.path, "c2d_r50", "auto", {option: value})):  # fmt: skip
        with pytest.raises(errors.UserError, match=f"`{name}` must be"):
            do()


def test_a_list_is_a_pool_size_too(small):
    report = weights.load(
        models.C2D(**SMALL_C2D, non_local_block={"pool_size": [1, 1, 1]}), small.path, pool_size=[1, 1, 1]
    )
    assert report.arguments["non_local_block"]["pool_size"] == (1, 1, 1)


@pytest.mark.parametrize("name, value", [("source", "caffe"), ("model", "c3d_r50")])
def test_a_source_or_a_model_that_there_is_not_is_a_mistake_of_the_user(name, value, small):
    with pytest.raises(errors.UserError, match=f"`{name}` must be 'auto' or one of .*{value}"):
        saving.imported(small.path, **{"model": "auto", "source": "auto", "options": {}, name: value})
