"""Exports on a second engine, OpenVINO's runtime for CPUs, answer as Keras does; docs/conversion.md has the table."""

import blocks
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_exports
import tiny_task
from official.core import task_factory

from keras_nonlocal import export
from keras_nonlocal.export import folding, portable
from keras_nonlocal.layers.non_local import NonLocalMixin
from keras_nonlocal.ops import attend, pairwise
from keras_nonlocal.tfm.export import video_classification

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'keras_nonlocal[openvino]'")

NO_RULE = "No conversion rule found for operations: {}"
LAYERS = [
    (rank, form, implementation, extent, known)
    for form in blocks.FORMS
    for rank, implementation, extent in (
        *((2, implementation, None) for implementation in attend.implementations(pairwise.FORMS[form])),
        *((3, "auto", extent) for extent in ("spacetime", "space", "time")),
        (1, "auto", None),
    )
    for known in (True, False)
]


def compiled(path):
    """A function of arrays that runs a SavedModel's serving_default."""
    # On CPUs with AMX it would compute in bfloat16, which is right to 1e-2.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(openvino.convert_model(str(path)), "CPU", settings)


def searches(form, implementation, known):
    """Whether the graph has tf.searchsorted, which OpenVINO has not: for sizes that are known, "auto" sums few keys."""
    return form == "concatenation" and (implementation == "sorted" or implementation == "auto" and not known)


def built(rank, form, implementation, extent, known, positions=None, **arguments):
    """A model of one block, and inputs to it."""
    positions = positions or blocks.POSITIONS[rank]
    arguments |= {} if extent is None else {"extent": extent}
    layer = blocks.make("keras", rank, pairwise=form, implementation=implementation, **arguments)
    inputs = keras.Input((*(positions if known else [None] * rank), blocks.CHANNELS))
    model = keras.Model(inputs, layer(inputs))
    blocks.randomise(layer)
    return model, blocks.inputs(rank, positions=positions).astype("float32")


@pytest.mark.parametrize(
    "rank, form, implementation, extent, known",
    [
        pytest.param(*case, marks=() if case[:3] == (2, "embedded_gaussian", "auto") else pytest.mark.slow)
        for case in LAYERS
    ],
)
def test_a_block_answers_as_keras(rank, form, implementation, extent, known, tmp_path):
    model, x = built(rank, form, implementation, extent, known)
    model.export(tmp_path, verbose=False)
    if searches(form, implementation, known):
        with pytest.raises(openvino.frontend.OpConversionFailure, match=NO_RULE.format("UpperBound")):
            compiled(tmp_path)
        assert "concatenation, dense" in portable.portable(model, x.shape[1:])
        model.export(tmp_path, verbose=False)
    blocks.close(compiled(tmp_path)(x)[0], model(x), 1e-5)


@pytest.mark.slow
def test_a_loop_of_several_chunks(tmp_path):
    model, x = built(2, "embedded_gaussian", "auto", None, False, positions=(72, 72))
    model.export(tmp_path, verbose=False)
    blocks.close(compiled(tmp_path)(x)[0], model(x), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form", blocks.FORMS)
@pytest.mark.parametrize("implementation", ["dense", "chunked"])
@pytest.mark.parametrize("rank", [2, 3])
def test_a_block_without_pooling(rank, implementation, form, tmp_path):
    if implementation not in attend.implementations(pairwise.FORMS[form]):
        implementation = "auto"
    model, x = built(rank, form, implementation, None, True, pool_size=1)
    model.export(tmp_path, verbose=False)
    found = compiled(tmp_path)(x)[0]
    if form == "embedded_gaussian" and implementation == "dense":
        # OpenVINO 2026.4.1 leaves reshapes out that it needs: queries see the keys of their own row only.
        assert np.abs(found - model(x)).max() > 0.1
        assert portable.UNPOOLED in portable.portable(model)
    else:
        blocks.close(found, model(x), 1e-5)


def test_pixels_are_served_and_files_are_not(tmp_path):
    """It has no rule to decode images, and none is needed for the signature beside."""
    model = tiny_exports.network()
    functions = tiny_exports.signatures(model, training=False)
    export.write(functions, model, tmp_path / "both")
    run = compiled(tmp_path / "both")
    found = {value.ndim: value for value in run(tiny_exports.images()).values()}  # it does not keep their names
    _, expected = tiny_exports.golden(functions)["serving_default"]
    assert np.array_equal(found[1], expected["best"])
    blocks.close(found[2], expected["scores"], 1e-5)
    export.write({"serving_default": functions["encoded"]}, model, tmp_path / "files")
    with pytest.raises(openvino.frontend.OpConversionFailure, match=NO_RULE.format("DecodePng")):
        compiled(tmp_path / "files")


@pytest.mark.slow
@pytest.mark.parametrize("fold", [False, True])
def test_a_video_classifier(fold, tmp_path):
    """Frames of 8 bits, normalised and classified; of the export with encoded videos beside them."""
    params = tiny_task.experiment()
    model = task_factory.get_task(params.task).build_model()
    generator = np.random.default_rng(0)
    for variable in model.weights:
        is_kernel = "kernel" in variable.name
        variable.assign(
            generator.normal(0, 0.3, variable.shape) if is_kernel else generator.uniform(0.5, 1.5, variable.shape)
        )
    for layer in model.submodules:
        if isinstance(layer, NonLocalMixin):  # which has no pooling in this network, see above
            layer.implementation = "chunked"
    module_class = video_classification.VideoClassificationModule
    network = folding.folded(model, module_class.random_inputs(params)) if fold else model
    module = module_class(params, network)
    functions = module.signatures()
    export.write(functions, network, tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (2, *tiny_task.SHAPE), np.uint8)
    expected = functions["serving_default"].function(frames=tf.constant(frames))
    found = list(compiled(tmp_path)(frames).values())
    assert len(found) == 2
    for name, value in expected.items():
        assert min(np.abs(each - value).max() for each in found) <= 1e-5 * np.abs(value).max(), name
