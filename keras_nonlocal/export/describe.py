"""What a SavedModel takes and gives, and how to ask it: by curl and from Python. Nothing is loaded for it."""

import base64
import json
import os
import shlex

import tensorflow as tf

from keras_nonlocal.export import golden, saved_graph

# Sizes that a signature leaves open, in a request that is made up.
OPEN_SIZE = 64
# Numbers of a golden row that fit a line, such as sizes and queries.
_SHORT = 64
_JPEG = f"tf.io.encode_jpeg(tf.zeros([{OPEN_SIZE}, {OPEN_SIZE}, 3], tf.uint8)).numpy()"


def describe(
    path: str | os.PathLike[str],
    rest: str = "http://127.0.0.1:8501",
    server: str = "grpc://127.0.0.1:8500",
    model_name: str | None = None,
    shown: str | None = None,
) -> str:
    """Lists the signatures of a SavedModel: names, dtypes and shapes, and requests that a server of it answers.

    A request is the golden one that an export keeps, or where that is too large for curl a row of its size, otherwise
    one of zeros (of strings: a black JPEG).

    Args:
      path: `saved_models/<name>/<version>`, or `saved_models/<name>` for the newest.
      rest: "http://host:port" of REST, in the requests.
      server: "grpc://host:port" of gRPC, in the requests.
      model_name: in the requests; default is the name of the folder of the version.
      shown: what stands for `path` in the requests; default is the path.

    Returns:
      Lines of text.

    Raises:
      UserError: if there is no SavedModel.
    """
    path = saved_graph.version_path(path)
    meta_graph = saved_graph.read(path)
    name = model_name or path.resolve().parent.name
    url = f"{rest.rstrip('/')}/v1/models/{name}:predict"
    lines = [str(shown or path)]
    for signature, each in saved_graph.signatures(meta_graph).items():
        inputs, outputs = saved_graph.specs(each.inputs), saved_graph.specs(each.outputs)
        first = "batch" if all(spec.shape.rank for spec in inputs.values()) else "?"
        width = max(map(len, [*inputs, *outputs]))
        lines += ["", signature]
        for side, specs in (("takes", inputs), ("gives", outputs)):
            lines += [f"  {side} {alias:{width}}  {_text(spec, first)}" for alias, spec in specs.items()]
        lines += [f"  has {len(saved_graph.nodes(meta_graph, each))} operations", "  curl"]
        lines += [f"    {_curl(path, signature, inputs, url, shown or path)}", "  Python"]
        lines += [f"    {line}" for line in _python(path, signature, inputs, server, name, shown or path)]
    return "\n".join(lines)


def _text(spec, first):
    if spec.shape.rank is None:
        return f"{spec.dtype.name} of any shape"
    sizes = ["?" if size is None else str(size) for size in spec.shape]
    if sizes and sizes[0] == "?":
        sizes[0] = first
    return f"{spec.dtype.name} [{', '.join(sizes)}]"


def _curl(path, signature, inputs, url, shown):
    if golden.request_file(path, signature).is_file():
        body = f"@{golden.request_file(shown, signature)}"
        return f"curl -d {shlex.quote(body)} {shlex.quote(url)}"
    # Python writes what would be too long for a command line, and needs none of its packages.
    row = golden.first_row(path, signature)
    fills = ", ".join(f"{json.dumps(alias)}: {_fill(spec, row.get(alias))}" for alias, spec in inputs.items())
    program = (
        "import json; fill = lambda x, *shape: [fill(x, *shape[1:])] * shape[0] if shape else x; "
        f'print(json.dumps({{"signature_name": {json.dumps(signature)}, "inputs": {{{fills}}}}}))'
    )
    return f"python3 -c {shlex.quote(program)} | curl -d @- {shlex.quote(url)}"


def _fill(spec, row):
    """Python for one row of an input: the golden one where it is short, else zeros (of strings: a black JPEG)."""
    if row is not None and row.size <= _SHORT and spec.dtype != tf.string:
        return json.dumps(row.tolist()).replace("true", "True").replace("false", "False")
    sizes = _sizes(spec) if row is None else row.shape
    return f"fill({', '.join([_leaf(spec.dtype), *map(str, sizes)])})"


def _leaf(dtype):
    if dtype == tf.string:
        black = tf.io.encode_jpeg(tf.zeros([OPEN_SIZE, OPEN_SIZE, 3], tf.uint8)).numpy()
        return json.dumps({"b64": base64.b64encode(black).decode()})
    return "False" if dtype == tf.bool else "0"


def _sizes(spec):
    """Of a request of one row."""
    sizes = [] if spec.shape.rank is None else spec.shape.as_list()
    return [(1 if axis == 0 else OPEN_SIZE) if size is None else size for axis, size in enumerate(sizes)]


def _python(path, signature, inputs, server, name, shown):
    call = [
        f"with Client({server!r}, {name!r}) as client:",
        f"    answer = client.predict(inputs, {signature!r})",
    ]
    if golden.is_kept(path, signature):
        return [
            "from keras_nonlocal.export import golden",
            "from keras_nonlocal.serving import Client",
            f"inputs, outputs = golden.read({str(shown)!r})[{signature!r}]",
            *call,
        ]
    arrays = ", ".join(f"{alias!r}: {_array(spec)}" for alias, spec in inputs.items())
    return [
        "import numpy as np",
        *(["import tensorflow as tf"] if any(spec.dtype == tf.string for spec in inputs.values()) else []),
        "from keras_nonlocal.serving import Client",
        f"inputs = {{{arrays}}}",
        *call,
    ]


def _array(spec):
    if spec.dtype == tf.string:
        return f"np.full({_sizes(spec)}, {_JPEG}, object)"
    return f"np.zeros({_sizes(spec)}, {spec.dtype.name!r})"
