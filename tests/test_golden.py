"""Files that earlier versions wrote go on loading, and answer as they did. tests/golden/make.py wrote them."""

import pathlib
import sys

import blocks
import numpy as np
import pytest
import tensorflow as tf

GOLDEN = pathlib.Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))

import make  # noqa: E402

CASES = [
    pytest.param(folder, name, way, id=f"{folder.name}-{name}-{way}")
    for folder in sorted(path for path in GOLDEN.iterdir() if path.is_dir() and path.name[0].isdigit())
    for name, (_, ways) in make.MODELS.items()
    for way in ways
]


def _loaded(path, name, way):
    """A function from the inputs to what comes out."""
    new, _ = make.MODELS[name]
    flavour = blocks.FLAVOURS["keras" if name.startswith("keras") else "tf_keras"].keras
    if way in ("keras", "h5"):
        return flavour.models.load_model(f"{path}.{way}")
    if way == "saved_model":
        return flavour.models.load_model(f"{path}_saved_model")
    if way == "export":
        served = tf.saved_model.load(f"{path}_export")
        return lambda given, training: served.serve(given)
    model = new()
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    if way == "weights":
        model.load_weights(f"{path}.weights.h5")
    else:
        items = {"model": model, **getattr(model, "checkpoint_items", {})}
        tf.train.Checkpoint(**items).read(f"{path}.ckpt").assert_consumed()
    return model


@pytest.mark.parametrize("folder, name, way", CASES)
def test_loads_and_answers_as_it_did(folder, name, way):
    model = _loaded(folder / name, name, way)
    given = make.inputs(make.MODELS[name][0]())
    expected = np.load(folder / f"{name}.npz")
    found = make.outputs(model, given)
    assert len(found) == len(expected.files)
    for i, y in enumerate(found):
        np.testing.assert_allclose(y, expected[f"y{i}"], rtol=1e-4, atol=1e-5 * np.abs(expected[f"y{i}"]).max())
