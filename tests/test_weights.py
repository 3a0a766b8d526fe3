"""Peers' checkpoints: the same numbers as their own code gives, every tensor once, and nothing executed.

The expected outputs were computed by the peers' PyTorch code, see the `meta` of each file. `hostile/` has files that
would run code, use up memory or are broken; its manifest says what each is.
"""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tf_keras

from keras_nonlocal import errors, models, weights
from keras_nonlocal.models import video_resnet
from keras_nonlocal.tfm import backbones
from keras_nonlocal.tfm import layers as tfm_layers
from keras_nonlocal.weights import saving

DATA = pathlib.Path(__file__).parent / "data" / "weights"
HOSTILE, DIALECTS = DATA / "hostile", DATA / "pickle_dialects"
MANIFEST = json.loads((HOSTILE / "manifest.json").read_text())
LOGITS = {"atol": 1e-4, "rtol": 0}
FEATURES = {"atol": 1e-4, "rtol": 1e-4}
FIVE_BLOCKS = {"res3": [1, 3], "res4": [1, 3, 5]}
SLOWFAST_C2D = dict(
    block_counts=(3, 4, 6, 3), width=4, classes=11, stem="slowfast", non_local=FIVE_BLOCKS, input_shape=(8, 64, 64, 3)
)


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
        ("sf_c2d_nln_8x8_r50.pyth", "sf_c2d_nln_8x8_r50.npz", {}),
    ],
)
def test_the_window_slides_over_larger_crops_as_in_the_peers_test(file, results, options):
    want = expected(results)
    model, _ = weights.build(DATA / file, window=(4, 2, 2), **options)
    np.testing.assert_allclose(model(want["x_test"]), want["y_test"], atol=5e-5, rtol=0)
    logits = keras.Model(model.input, model.get_layer("pred").output)(want["x_test"])
    np.testing.assert_allclose(logits, want["logits_map_test"], **LOGITS)


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


@pytest.mark.parametrize("shape", [(8, 64, 64, 3), (None, None, None, 3)], ids=["static", "dynamic"])
def test_tf_keras_gets_the_same_numbers(shape):
    want = expected("sf_c2d_nln_8x8_r50.npz")
    arguments = {key: value for key, value in SLOWFAST_C2D.items() if key not in ("classes", "input_shape")}
    backbone = backbones.VideoResNet(shape, **arguments)
    x = tf_keras.layers.GlobalAveragePooling3D()(backbone.output["5"])
    model = tf_keras.Model(backbone.input, tf_keras.layers.Dense(11)(x))
    weights.load(model, DATA / "sf_c2d_nln_8x8_r50.pyth")
    np.testing.assert_allclose(model(want["x"]), want["logits"], **LOGITS)


def test_a_backbone_takes_all_but_the_classifier():
    backbone = backbones.VideoResNet(width=4, stem="slowfast", non_local=FIVE_BLOCKS)
    report = weights.load(backbone, DATA / "sf_c2d_nln_8x8_r50.pyth")
    assert report.skipped["head.projection.weight"] == "the model has no classifier"


def test_the_report_accounts_for_every_variable_and_every_tensor():
    model = models.C2D(**SLOWFAST_C2D)
    before = [np.array(variable) for variable in model.weights]
    report = weights.load(model, DATA / "sf_c2d_nln_8x8_r50.pyth")
    checkpoint = weights.read(DATA / "sf_c2d_nln_8x8_r50.pyth")
    assert len(report.rows) == len(model.weights)
    used = [row.tensor for row in report.rows]
    assert sorted(used) == sorted(checkpoint.tensors)
    assert set(report.skipped) == set(checkpoint.skipped)
    assert all(not np.array_equal(old, new) for old, new in zip(before, model.weights, strict=True))
    row = report.rows[0]
    assert (row.variable, row.tensor, row.shape) == ("conv1/kernel", "s1.pathway0_stem.conv.weight", (1, 7, 7, 3, 4))
    assert row.norm == pytest.approx(float(np.linalg.norm(checkpoint.tensors[row.tensor])), rel=1e-6)
    assert checkpoint.sha256 in str(report)


REFUSED = {
    "stem": dict(stem="official"),
    "temporal_stride": dict(temporal_stride=8),
    "inflate": dict(inflate="3x1x1"),
    "width": dict(width=6),
    "classes": dict(classes=10),
    "block_counts": dict(block_counts=(3, 4, 23, 3)),
    "non_local": dict(non_local={"res3": [1, 3], "res4": [1, 3, 4]}),
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
def test_a_model_that_computes_something_else_is_refused_by_the_options_name(option):
    arguments = {**SLOWFAST_C2D, **REFUSED[option]}
    network = models.I3D if "inflate" in arguments else models.C2D
    model = network(**arguments)
    before = [np.array(variable) for variable in model.weights]
    with pytest.raises(weights.CheckpointError, match=f"`{option}`.* must "):
        weights.load(model, DATA / "sf_c2d_nln_8x8_r50.pyth")
    assert all(np.array_equal(old, new) for old, new in zip(before, model.weights, strict=True))


@pytest.mark.parametrize(
    "changed, message", [("missing", "it has nothing for res4_0_branch2a_bn/beta"), ("surplus", "nowhere to put")]
)
def test_tensors_that_are_missing_or_too_many(tmp_path, changed, message):
    tensors = dict(weights.read(DATA / "sf_c2d_nln_8x8_r50.pyth").tensors)
    beta = tensors.pop("s4.pathway0_res0.branch2.a_bn.bias")
    if changed == "surplus":
        tensors |= {"s4.pathway0_res0.branch2.a_bn.bias": beta, "s3.pathway0_res3.branch1.weight": beta}
    path = as_safetensors({f"w/{name}": array for name, array in tensors.items()}, tmp_path / "changed.safetensors")
    with pytest.raises(weights.CheckpointError, match=message):
        weights.load(models.C2D(**SLOWFAST_C2D), path, pairwise="embedded_gaussian")


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


def test_hostile_files_take_no_memory(tmp_path):
    """All of them one after the other, in a process that may not have 100 MB more than it has after its imports."""
    program = f"""
import json, pathlib, resource
from keras_nonlocal import weights
data = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (data + 100 * 2**20,) * 2)
for case in json.loads(pathlib.Path({str(HOSTILE / "manifest.json")!r}).read_text()):
    if case["kind"] != "valid":
        try:
            weights.read(pathlib.Path({str(HOSTILE)!r}) / case["file"])
        except weights.CheckpointError as e:
            assert "memory" not in str(e).lower(), e
        else:
            raise AssertionError(case["file"])
print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip().endswith("refused"), done.stderr[-2000:]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", [case for case in MANIFEST if case["kind"] == "valid"], ids=lambda case: case["file"])
def test_what_torch_writes_is_read(case):
    # Their names are no network's, which is told last; so the values are taken where they are read.
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


def test_the_command_imports_and_its_files_load_again(tmp_path):
    root = pathlib.Path(__file__).parent.parent
    command = [sys.executable, "-m", "training.import_weights"]
    out = tmp_path / "c2d.safetensors"
    done = subprocess.run(
        [*command, str(DATA / "sf_c2d_nln_8x8_r50.pyth"), f"--out={out}"], capture_output=True, text=True, cwd=root
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "SHA-256" in done.stdout and "Apache-2.0" in done.stdout and f"Wrote {out}" in done.stdout
    assert (tmp_path / "c2d.safetensors.txt").read_text().strip() in done.stdout
    want = expected("sf_c2d_nln_8x8_r50.npz")
    model, report = weights.build(out)
    np.testing.assert_allclose(model(want["x"]), want["logits"], **LOGITS)
    assert report.checkpoint.licence == weights.read(DATA / "sf_c2d_nln_8x8_r50.pyth").licence
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c2d.safetensors", "c2d.safetensors.txt"]
    done = subprocess.run(
        [*command, str(HOSTILE / "evil_os_system.pkl"), f"--out={tmp_path}/evil.weights.h5"],
        capture_output=True, text=True, cwd=root,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr and not (tmp_path / "evil.weights.h5").exists()


@pytest.mark.parametrize("suffix", saving.SUFFIXES)
def test_a_full_disk_leaves_nothing_and_a_clear_error(suffix, small_disk, tmp_path):
    model, report = weights.build(DATA / "sf_c2d_nln_8x8_r50.pyth")
    with pytest.raises(errors.UserError, match="--out .* cannot be written .No space left on device.; make room"):
        saving.save(model, report, tmp_path / "disk" / f"c2d{suffix}")
    assert not list((tmp_path / "disk").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(errors.UserError, match="--out .* cannot be written"):
        saving.save(model, report, tmp_path / "file" / f"c2d{suffix}")
