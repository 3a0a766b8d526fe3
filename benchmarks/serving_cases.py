"""What is sent to a server: exported models, requests that it has to answer, with the answers, and some it may not."""

import base64
import dataclasses
import json
import pathlib

import numpy as np
import tensorflow as tf

from keras_nonlocal.serving import constants, publish
from keras_nonlocal.serving.apis import predict_pb2

MODEL = "clips"
EXAMPLES = 4  # different ones, so that an answer to another request is noticed
TENSOR, ENCODED = "tensor", "encoded"
SIGNATURES = {TENSOR: constants.DEFAULT_SIGNATURE, ENCODED: constants.TF_EXAMPLE_SIGNATURE}
EXPERIMENTS = {"plain": "c2d_demo", "non-local": "non_local_c2d_demo"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One signature of a published model.

    Args:
      model: name in tables.
      kind: TENSOR or ENCODED.
      signature: name of the served function, of one input.
      alias: name of its input.
      examples: its input, (1, ...) each.
      answers: {output: (1, ...)} for each example, computed in this process.
    """

    model: str
    kind: str
    signature: str
    alias: str
    examples: list[np.ndarray]
    answers: list[dict[str, np.ndarray]]


def export(model: str, base: pathlib.Path) -> None:
    """Publishes an untrained network of the demo, as `keras-nonlocal export` does, in base/1."""
    from official.core import exp_factory, task_factory

    from keras_nonlocal.demo import experiments  # noqa: F401 registers them
    from keras_nonlocal.tfm import export as exporter

    params = exp_factory.get_exp_config(EXPERIMENTS[model])
    network = task_factory.get_task(params.task).build_model()
    rng = np.random.default_rng(0)
    for variable in network.trainable_variables:
        # Blocks begin as the identity, and a new classifier answers zero: neither would show a mistake.
        if not np.any(variable.numpy()) or variable.shape.rank == 2:
            variable.assign(rng.normal(size=variable.shape, scale=0.3))
    checkpoint = tf.train.Checkpoint(model=network).write(str(base.with_name(f"{base.name}_checkpoint")))
    exporter.export(params, checkpoint, str(base))


def case(model: str, base: pathlib.Path, kind: str) -> tuple[Case, object]:
    """A Case of a published model, and the served function in this process: of {alias: tensor}."""
    loaded = tf.saved_model.load(str(publish.versions(base)[1]))
    function = loaded.signatures[SIGNATURES[kind]]
    ((alias, spec),) = loaded.signatures[SIGNATURES[TENSOR]].structured_input_signature[1].items()
    rng = np.random.default_rng(1)
    examples = [rng.integers(0, 256, [1, *spec.shape[1:]], np.uint8) for _ in range(EXAMPLES)]
    if kind == ENCODED:
        ((alias, _),) = function.structured_input_signature[1].items()
        examples = [np.array([_sequence_example(clip[0])], object) for clip in examples]

    def run(example, loaded=loaded):  # which keeps the variables alive
        return function(**{alias: tf.constant(example)})

    answers = [{name: value.numpy() for name, value in run(example).items()} for example in examples]
    return Case(model, kind, SIGNATURES[kind], alias, examples, answers), run


def _sequence_example(clip):
    """A clip (T, H, W, 3) of uint8 as a SequenceExample of JPEG frames."""
    example = tf.train.SequenceExample()
    frames = example.feature_lists.feature_list["image/encoded"]
    for frame in clip:
        frames.feature.add().bytes_list.value.append(tf.io.encode_jpeg(frame).numpy())
    return example.SerializeToString()


def grpc_good(case: Case, name: str = MODEL) -> list[bytes]:
    """A serialized PredictRequest for each example."""
    return [_grpc(case, name, tf.make_tensor_proto(example)) for example in case.examples]


def grpc_bad(case: Case, name: str = MODEL) -> list[bytes]:
    """Requests that have to be refused as INVALID_ARGUMENT."""
    good = tf.make_tensor_proto(case.examples[0])
    wrong_dtype = tf.make_tensor_proto(np.zeros(case.examples[0].shape, np.float64))
    other_name = _grpc(case, name, good, alias="nobody")
    bad = [
        _grpc(case, name, wrong_dtype),
        other_name,
        _grpc(case, name, None),
        _grpc(case, name, tf.make_tensor_proto(case.examples[0][0])),  # of one rank less
    ]
    if case.kind == ENCODED:
        bad += [_grpc(case, name, tf.make_tensor_proto([value])) for value in _bad_files(case)]
    else:
        bad += [_grpc(case, name, tf.make_tensor_proto(value)) for value in _bad_arrays(case)]
    return bad


def _grpc(case, name, tensor, alias=None):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = case.signature
    if tensor is not None:
        request.inputs[alias or case.alias].CopyFrom(tensor)
    return request.SerializeToString()


def rest_good(case: Case) -> list[bytes]:
    """A body for each example, in row format."""
    return [_rest(case, _row(example[0])) for example in case.examples]


def rest_bad(case: Case) -> list[bytes]:
    """Bodies that have to be refused with 400."""
    row = _row(case.examples[0][0])
    whole = _rest(case, row)
    bad = [
        whole[:-2],
        b"[1, 2]",
        json.dumps({"signature_name": "nobody", "instances": [row]}).encode(),
        json.dumps({"signature_name": case.signature, "instances": []}).encode(),
        json.dumps({"signature_name": case.signature, "instances": [{"nobody": row}]}).encode(),
        _rest(case, None),
    ]
    if case.kind == ENCODED:
        return bad + [_rest(case, {"b64": "?"})] + [_rest(case, _row(value)) for value in _bad_files(case)]
    return bad + [_rest(case, "text")] + [_rest(case, _row(value[0])) for value in _bad_arrays(case)]


def _rest(case, row):
    return json.dumps({"signature_name": case.signature, "instances": [row]}).encode()


def _row(value):
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value.tolist()


def _bad_arrays(case):
    """Of another height, of one dimension more, and with one channel."""
    example = case.examples[0]
    return [np.concatenate([example] * 2, 2), example[..., np.newaxis], example[..., :1]]


def _bad_files(case):
    """No SequenceExample, one without frames, one whose frames are no JPEG, and half of a good one."""
    good = case.examples[0][0]
    empty, text = tf.train.SequenceExample(), tf.train.SequenceExample()
    text.feature_lists.feature_list["image/encoded"].feature.add().bytes_list.value.append(b"no JPEG")
    return [b"\xff" * 100, empty.SerializeToString(), text.SerializeToString(), good[: len(good) // 2]]


def read_grpc(body: bytes) -> dict[str, np.ndarray]:
    """The outputs of a serialized PredictResponse."""
    response = predict_pb2.PredictResponse.FromString(body)
    return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}


def read_rest(body: bytes) -> dict[str, np.ndarray]:
    """The outputs of an answer in row format, of a signature with several outputs."""
    (row,) = json.loads(body)["predictions"]
    return {name: np.asarray([value]) for name, value in row.items()}


def difference(found: dict[str, np.ndarray], answer: dict[str, np.ndarray]) -> float:
    """The largest difference between outputs, relative to the largest value of each; infinite if they are others."""
    if set(found) != set(answer) or any(found[name].shape != answer[name].shape for name in answer):
        return float("inf")
    parts = [np.abs(found[name] - value).max() / max(np.abs(value).max(), 1e-6) for name, value in answer.items()]
    return float(np.nan_to_num(max(parts), nan=np.inf))
