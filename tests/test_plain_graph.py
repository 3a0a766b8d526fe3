"""The graph of every exported form is that of an inference, and loading it is as quiet as loading any model."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from saved_graphs import check_plain, serve_v1
from served_models import CLIP, IMAGE, image_params, module_of, video_params

import keras_nonlocal
from keras_nonlocal import export
from keras_nonlocal.errors import UserError
from keras_nonlocal.export import folding, saved_graph
from keras_nonlocal.export.explain import Explain
from keras_nonlocal.export.model import signatures_of
from keras_nonlocal.tfm import layers as tfm_layers
from keras_nonlocal.tfm.export import video_classification


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """(module, network, path of the SavedModel) of a video classifier, folded as a run is."""
    params = video_params()
    _, network = module_of(params)
    network = folding.folded(network, video_classification.VideoClassificationModule.random_inputs(params))
    module = video_classification.VideoClassificationModule(params, network)
    path = tmp_path_factory.mktemp("saved") / "video"
    return module, network, export.publish(module.signatures() | module.explain(None, 3), network, path)


def test_a_video_classifier_is_plain(video):
    _, _, path = video
    count = check_plain(path)
    assert not {op for op in count if op.startswith("FusedBatchNorm") or op == "Rsqrt"}, "norms are folded"
    assert count["Softmax"] and count["EnsureShape"] and count["Assert"]


CLIPS = np.random.default_rng(0).integers(0, 256, [2, *CLIP], dtype=np.uint8)
QUERIES = np.float32([[[0, 1, 1], [3, 30, 16]], [[1, 16, 16], [2, 0, 31]]])


@pytest.fixture(scope="module")
def answers(video):
    """{signature: its answer} to these."""
    requests = {
        "serving_default": {"frames": CLIPS},
        "features": {"frames": CLIPS},
        "explain": {"frames": CLIPS, "queries": QUERIES},
    }
    return dict(zip(requests, serve_v1(video[-1], requests.items()), strict=True))


def test_the_features_of_clips_are_those_of_the_network(video, answers):
    _, network, _ = video
    seen, answer = answers["features"], answers["serving_default"]
    backbone = next(layer for layer in network.layers if isinstance(layer, tf_keras.Model))
    maps = backbone((CLIPS.astype("float32") - 114.75) / 57.375, training=False)["5"]
    assert set(seen) == {"pooled", "res5"}
    np.testing.assert_allclose(seen["res5"], maps, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(seen["pooled"], np.mean(maps, (1, 2, 3)), rtol=1e-4, atol=1e-4)
    kernel, bias = network.layers[-1].get_weights()
    np.testing.assert_allclose(answer["logits"], seen["pooled"] @ kernel + bias, rtol=1e-3, atol=1e-3)


def test_queries_are_explained_as_by_the_block(video, answers):
    module, network, _ = video
    answer = answers["explain"]
    expected = Explain(network, top_k=3)((CLIPS.astype("float32") - 114.75) / 57.375, QUERIES)
    assert answer["positions"].shape == (2, 2, 3, 3) and answer["weights"].min() > 0
    for name, value in expected.items():
        np.testing.assert_allclose(answer[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    with pytest.raises(ValueError, match="`block` must name one non-local block"):
        module.explain("res9", 3)


def test_every_signature_is_there_and_gives_float32(video):
    _, _, path = video
    served = saved_graph.signatures(saved_graph.read(path))
    assert set(served) == {"serving_default", "encoded", "tf_example", "features", "explain"}
    for name, each in served.items():
        assert {spec.dtype for spec in saved_graph.specs(each.outputs).values()} == {tf.float32}, name


def test_the_custom_gradients_of_blocks_are_not_in_it(tmp_path):
    """TensorFlow would keep a mark of each, of which loading warns: of projections, loops, and its own swish."""
    x = inputs = tf_keras.Input((6, 6, 8), name="maps")
    for form in ("embedded_gaussian", "dot_product", "concatenation"):
        x = tfm_layers.NonLocal2D(form)(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Activation("swish")(x))
    signatures, served = signatures_of(model)
    marked = [node for node in reachable_in(signatures["serving_default"]) if "_gradient_op_type" in node.attr]
    assert len(marked) > 3
    check_plain(export.publish(signatures, served, tmp_path / "plain"))


def reachable_in(signature):
    graph = signature.concrete().graph.as_graph_def()
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]


def test_compilation_by_xla_is_not_in_it(tmp_path):
    class Compiled(tf_keras.layers.Layer):
        @tf.function(jit_compile=True)
        def call(self, x):
            return 2 * x

    inputs = tf_keras.Input((3,), name="x")
    model = tf_keras.Model(inputs, Compiled()(inputs))
    path = export.export_model(model, tmp_path / "saved")
    check_plain(path)
    (answer,) = serve_v1(path, [("serving_default", {"x": np.float32([[1, 2, 3]])})])
    np.testing.assert_array_equal(answer["output_0"], [[2, 4, 6]])


def test_the_check_sees_what_is_not_plain(tmp_path):
    class Noisy(tf_keras.layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    inputs = tf_keras.Input((3,), name="x")
    noisy = tf_keras.Model(inputs, Noisy()(inputs))
    with pytest.raises(UserError, match="differs between .*--noverify"):
        export.export_model(noisy, tmp_path / "noisy", fold_norms=False)
    with pytest.raises(AssertionError, match="RandomStandardNormal"):
        check_plain(export.export_model(noisy, tmp_path / "noisy", fold_norms=False, verify=False))

    class Large(tf_keras.layers.Layer):
        def call(self, x):
            return x + tf.constant(np.random.default_rng(0).normal(size=[500_000, 3]).astype("float32"))[:1]

    with pytest.raises(AssertionError, match="constants of 6000"):
        check_plain(export.export_model(tf_keras.Model(inputs, Large()(inputs)), tmp_path / "large"))


@pytest.mark.slow
def test_an_image_classifier_is_plain(tmp_path):
    module, network = module_of(image_params())
    path = export.publish(module.signatures(), network, tmp_path / "images", export.Options(finite=True))
    check_plain(path)
    answers = serve_v1(path, [(name, each.example) for name, each in module.signatures().items()])
    assert [len(answer) for answer in answers] == [2, 2, 2, 2] and IMAGE == (32, 32, 3)


LOAD = """
import sys
import tensorflow as tf
for path in sys.argv[1:]:
    tf.saved_model.load(path)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.loader.load(session, ["serve"], path)
    print("loaded", path, file=sys.stderr, flush=True)
"""


def test_loading_says_no_more_than_of_any_model(video, tmp_path):
    """In a fresh process that silences nothing, first a model of one product, which has the once-in-a-process lines."""
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    double = tf.function(lambda x: {"y": module.weight * x}).get_concrete_function(tf.TensorSpec([None], name="x"))
    tf.saved_model.save(module, str(tmp_path / "trivial"), double)
    x = keras.Input((4, 4, 2), name="x")
    keras3 = keras.Model(x, keras_nonlocal.NonLocal2D()(x))
    paths = [str(tmp_path / "trivial"), video[-1], export.export_model(keras3, tmp_path / "keras3")]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *paths], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    of_any, *of_ours = [_lines(part) for part in re.split(r"loaded .*\n", done.stderr)[:3]]
    assert of_any, "TensorFlow has lines of its own"
    assert [lines - of_any for lines in of_ours] == [set(), set()]


def _lines(text):
    """Lines without times, process numbers and measurements."""
    return {re.sub(r"\d+", "0", re.sub(r"/tmp\S*", "PATH", line)) for line in text.splitlines()}
