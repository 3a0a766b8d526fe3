"""All Python of all pages runs as printed, page by page, on small networks, and gives what the page says."""

import asyncio
import contextlib
import json
import pathlib
import pkgutil
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading

import cv2
import keras
import numpy as np
import pages
import pytest
import tensorflow as tf
import yaml
from official.core import exp_factory, task_factory
from test_client import Classifier
from video_files import write_video

import keras_nonlocal.tfm  # noqa: F401  registers the experiments
from keras_nonlocal.serving import publish
from keras_nonlocal.serving.local import server

DATA = pathlib.Path(__file__).parent / "data"
CHECKPOINT = "i3d_nonlocal_8x8_IN_pretrain_400k.pkl"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name, names=None, sizes=None):
    return pages.run(pages.ROOT / name, {} if names is None else names, sizes)


def give_checkpoint(folder):
    (folder / CHECKPOINT).write_bytes((DATA / "weights" / "c2_i3d_nln.pkl").read_bytes())


def test_every_page_with_python_is_run_here():
    found = {pages.name(page) for page in pages.PAGES if pages.blocks(page, "python")}
    run_here = {"docs/" + name for name in ("distributed.md", "explaining.md", "fine_tuning.md", "inserting.md",
                "mathematics.md", "migration.md", "quickstart.md", "weights.md")} | {"README.md"}  # fmt: skip
    run_elsewhere = {"docs/conversion.md"}  # tests/test_conversion.py
    assert found == run_here | run_elsewhere | {"saved_models/README.md", "saved_models/deploy/README.md"}


def test_readme(folder):
    readme = pages.ROOT / "README.md"
    model, training, insertion = pages.blocks(readme, "python")
    assert len([line for line in model.splitlines() if line.strip()]) <= 10
    images = np.random.default_rng(0).normal(size=(2, 32, 40, 3)).astype("float32")
    trained = keras.applications.ResNet50(weights=None, input_shape=(32, 40, 3))
    names = pages.run(readme, {"images": images, "labels": np.array([3, 7]), "trained": trained})
    assert keras.models.load_model("model.keras").output_shape == (None, 10)
    assert names["model"].count_params() > trained.count_params()
    np.testing.assert_array_equal(names["model"](images), trained(images))


def test_mathematics():
    assert run("docs/mathematics.md")["weights"].shape == (1, 48, 48)


def test_migration():
    with np.load(DATA / "mmcv_blocks.npz", allow_pickle=False) as bundle:
        cases = json.loads(str(bundle["meta"]))["cases"]
        wanted = {"cls": "NonLocal3d", "mode": "embedded_gaussian", "sub_sample": True, "norm": True, "use_scale": True}
        (number,) = [case["case"] for case in cases if wanted.items() <= case.items()]
        arrays = {key.removeprefix(f"case/{number}/"): bundle[key] for key in bundle.files}
    state = {key.removeprefix("w/"): array for key, array in arrays.items() if key.startswith("w/")}
    run("docs/migration.md", {"mmcv_x": arrays["x"], "mmcv_y": arrays["y"], "mmcv_state": state})


DISTRIBUTED = """
import pages
names = pages.run(pages.ROOT / "docs/distributed.md", {})
print(names["model"].get_layer(index=2).norm_synchronized, names["model"].optimizer.iterations.value.numpy())
"""


@pytest.mark.slow
def test_distributed():
    """In a process of its own: a second MirroredStrategy would number its collectives as the first of the tests has."""
    done = subprocess.run(
        [sys.executable, "-c", DISTRIBUTED], cwd=pages.ROOT / "tests", capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "True 2\n", done.stderr


@pytest.mark.slow
def test_inserting():
    names = run("docs/inserting.md")
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    expected = names["trained"](image)
    np.testing.assert_array_equal(names["model"](image), expected)
    np.testing.assert_allclose(names["video"](np.stack([image] * 8, axis=1)), expected, atol=1e-6)


@pytest.mark.slow
def test_explaining(folder):
    names = run("docs/explaining.md")
    assert names["block"].weights.shape == (1, 1, 20) and len(names["whole"]) == 3
    assert {path.name for path in folder.iterdir()} == {"arrows.png", "heatmap.png", "film.mp4", "overview.png"}


@pytest.mark.slow
def test_quickstart(folder):
    names = run("docs/quickstart.md", sizes={"clips).shape, keras_nonlocal": "clips[:1]).shape, keras_nonlocal"})
    accuracy = names["model"].evaluate(names["images"][1500:], names["digits"].target[1500:], verbose=0)[1]
    assert accuracy > 0.85
    assert (folder / "look.png").is_file() and pathlib.Path(names["path"], "saved_model.pb").is_file()


@pytest.mark.slow
def test_weights(folder):
    give_checkpoint(folder)
    names = run("docs/weights.md", sizes={"I3D(50, non_local": "I3D(50, width=4, classes=11, non_local"})
    assert names["model"].get_layer("conv1").kernel.shape == (5, 7, 7, 3, 4)
    assert names["Mine"]().recognises({"conv1.kernel": None})


@pytest.mark.slow
def test_fine_tuning(folder):
    """The network learns six videos by heart, and the checkpoint starts a task with the file's weights."""
    give_checkpoint(folder)
    (folder / "my_videos").mkdir()
    rows = ["path,label"]
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 60, (70, 64, 64, 3), np.uint8)
        write_video(folder / "my_videos" / f"{number}.mp4", pixels + np.uint8(120 * (number % 2)))
        rows.append(f"{number}.mp4,{'bright' if number % 2 else 'dark'}")
    (folder / "mine.csv").write_text("\n".join(rows))
    sizes = {"8, 224, 224, stride": "8, 64, 64, stride", "epochs=10": "epochs=40"}
    network = 'exp_factory.get_exp_config("non_local_i3d_kinetics400")\n'
    sizes[network] = f"{network}experiment.task.model.backbone.video_resnet.width = 4\n"
    names = run("docs/fine_tuning.md", sizes=sizes)
    assert names["classes"] == ["bright", "dark"]
    np.testing.assert_array_equal(np.argmax(names["model"].predict(names["x"]), axis=-1), names["labels"])
    assert keras.models.load_model("mine.keras").output_shape == (None, 2)

    (settings,) = pages.blocks(pages.ROOT / "docs" / "fine_tuning.md", "yaml")
    names["experiment"].override(yaml.safe_load(settings), is_strict=True)
    task = task_factory.get_task(names["experiment"].task)
    model = task.build_model()
    task.initialize(model)
    kernels = [layer.kernel for layer in model.backbone.layers if layer.name == "conv1"]
    np.testing.assert_array_equal(kernels[0], names["network"].get_layer("conv1").kernel)


@pytest.mark.parametrize("settings", pages.blocks(pages.ROOT / "training" / "README.md", "yaml"))
def test_settings_exist(settings):
    name = "image" if "non_local_resnet:" in settings else "non_local_c2d_kinetics400"
    experiment = exp_factory.get_exp_config({"image": "non_local_mask_rcnn_r50_coco"}.get(name, name))
    experiment.override(yaml.safe_load(settings), is_strict=True)


class Detector(tf.Module):
    """Finds one thing, of class 2, in the whole of every photo."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="encoded")])
    def encoded(self, encoded):
        sizes = tf.map_fn(lambda file: tf.shape(tf.io.decode_jpeg(file))[:2], encoded, fn_output_signature=tf.int32)
        sizes = tf.cast(tf.reshape(sizes, [-1, 1, 2]), tf.float32)  # (B, 2) -> (B, 1, 2)
        ones = tf.ones_like(sizes[..., 0])
        boxes = tf.concat([tf.zeros_like(sizes), sizes], axis=-1)
        counts = tf.cast(ones[:, 0], tf.int32)
        return {"boxes": boxes, "classes": 2 * ones, "scores": 0.9 * ones, "num_detections": counts}


@pytest.mark.slow
def test_serving(folder):
    clips, detector = Classifier(), Detector()
    signatures = {"serving_default": clips.fixed, "explain": clips.explain}
    bases = {
        "clips": (clips, signatures),
        "detector": (detector, {"serving_default": detector.encoded, "encoded": detector.encoded}),
    }
    for name, (module, signatures) in bases.items():
        publish.publish(
            lambda path, m=module, s=signatures: tf.saved_model.save(m, path, signatures=s), f"served/{name}"
        )
    write_video(folder / "clip.mp4", np.full((8, 32, 32, 3), (9, 200, 9), np.uint8))
    cv2.imwrite("photo.jpg", np.full((40, 60, 3), 99, np.uint8))
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    inputs = keras.Input((4,))
    frames = np.full((2, 4, 16, 16, 3), 9, np.uint8)
    given = {"model": keras.Model(inputs, keras.layers.Dense(2)(inputs)), "frames": frames,
             "batches": [{"frames": frames}] * 3}  # fmt: skip
    with (
        server.LocalServer("served/clips", "clips") as first,
        server.LocalServer("served/detector", "detector") as second,
    ):
        sizes = {f'"grpc://127.0.0.1:8500", "{name}"': f'"grpc://{running.grpc_address}", "{name}"'
                 for name, running in (("clips", first), ("detector", second))}  # fmt: skip
        names = run("saved_models/README.md", given, sizes)
    assert names["path"].endswith("saved_models/clips/1")
    assert names["answer"]["probabilities"].shape == (2, 3)
    assert names["future"].result()["probabilities"].shape == (2, 3)
    assert names["picture"].dtype == np.uint8
    assert names["found"].boxes.shape == (1, 4)


@contextlib.contextmanager
def behind_tls(address, certificate, key):
    """The port of a proxy on this machine that ends TLS, and hands bytes to and fro."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def pump(source, to):
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                to.write(data)
                await to.drain()
        to.close()

    async def connected(reader, writer):
        host, port = address.rsplit(":", 1)
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(
        asyncio.start_server(connected, "localhost", 0, ssl=context, family=socket.AF_INET)
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_deploy(folder):
    """Both clients, through TLS; the local server knows no labels, so that they ask for a version."""
    clips = Classifier()
    signatures = {"serving_default": clips.open_size, "tf_example": clips.tf_example}
    publish.publish(lambda path: tf.saved_model.save(clips, path, signatures=signatures), "served/clips")
    write_video(folder / "clip.mp4", np.full((8, 32, 32, 3), (9, 200, 9), np.uint8))
    (folder / "tls").mkdir()
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", "tls/server.key", "-out",
            "tls/server.crt"]  # fmt: skip
    subprocess.run(make, check=True, capture_output=True)
    with server.LocalServer("served/clips", "clips") as running, contextlib.ExitStack() as proxies:
        addresses = (running.grpc_address, running.rest_url.removeprefix("http://"))
        ports = [proxies.enter_context(behind_tls(where, "tls/server.crt", "tls/server.key")) for where in addresses]
        sizes = {
            'secure_channel("localhost:8443"': f'secure_channel("localhost:{ports[0]}"',
            "https://localhost:8443/v1/models/clips/labels/stable": f"https://localhost:{ports[1]}/v1/models/clips/versions/1",
            'version_label = "stable"': "version.value = 1",
            "print(json.load(response)": "answer = (json.load(response)",
            "response = stub.Predict": "by_grpc = response = stub.Predict",
        }
        names = run("saved_models/deploy/README.md", sizes=sizes)
    assert tf.make_ndarray(names["by_grpc"].outputs["probabilities"]).shape == (1, 3)
    assert np.argmax(names["answer"][0]["probabilities"]) == 1  # green


def test_names_of_the_package_are_there():
    names = {name for page in pages.PAGES for name in re.findall(r"`(keras_nonlocal(?:\.\w+)+)[`(]", page.read_text())}
    assert len(names) > 15
    for name in names:
        pkgutil.resolve_name(name)
