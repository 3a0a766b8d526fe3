"""How fast is a served model, next to the same model in this process, and does it stand bad requests?

    python benchmarks/serving.py --requests=2000 --out=docs/benchmarks/serving.md
    python benchmarks/serving.py --requests=10000 --bad=0.05 --models=non-local --out=docs/benchmarks/serving_bad.md

Exports the demo's networks, untrained, with and without non-local blocks, starts TensorFlow Serving if it is on PATH,
else the local stand-in, and sends requests of one clip, as a tensor and as JPEG frames, by many clients at once over
REST and gRPC. Every answer is compared with that of the model in this process, and every bad request has to be refused.
"""

import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import command_line  # noqa: E402
import report  # noqa: E402
import serving_cases as cases  # noqa: E402
import serving_clients as clients  # noqa: E402
import serving_servers as servers  # noqa: E402
from absl import app, flags  # noqa: E402

from keras_nonlocal import console  # noqa: E402

COLUMNS = ["model, input", "answered by", "clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "batch", "MiB before",
           "MiB half way", "MiB after", "largest difference"]  # fmt: skip
PROTOCOLS = ("rest", "grpc")
# Of all requests, sent before anything is measured: allocators and thread pools grow with the first ones.
WARM_UP = 0.1
GROWTH = 5.0  # per cent

flags.DEFINE_integer("requests", 2000, "Of each case.", lower_bound=20)
flags.DEFINE_float("bad", 0.0, "Share of them that has to be refused.", 0, 0.9)
flags.DEFINE_integer("clients", 8, "How many send at the same time.", lower_bound=1)
flags.DEFINE_bool("batching", False, "Let TensorFlow Serving batch; bad requests take others along then.")
flags.DEFINE_bool("local", False, "Measure the local stand-in, even if TensorFlow Serving is on PATH.")
command_line.define_choices("models", cases.EXPERIMENTS)
command_line.define_choices("inputs", cases.SIGNATURES)
command_line.define_choices("protocols", PROTOCOLS)
flags.DEFINE_string("out", "", "Where the report goes. Default: it is only printed.")
FLAGS = flags.FLAGS


class InProcess:
    """The model in this process, in the place of a client; a body is the number of an example."""

    def __init__(self, run, examples):
        self._run, self._examples = run, examples

    def send(self, body):
        return clients.OK, {name: value.numpy() for name, value in self._run(self._examples[body]).items()}

    def close(self):
        pass


def main(_):
    if FLAGS.batching and FLAGS.bad:
        sys.exit("error: --bad goes without --batching: a bad request takes those along that share its batch")
    console.quiet(FLAGS)
    rows, bars, server_name = [], [], ""
    progress = report.Progress(len(FLAGS.models) * len(FLAGS.inputs))
    with tempfile.TemporaryDirectory() as work:
        for model in FLAGS.models:
            base = pathlib.Path(work) / model
            cases.export(model, base)
            for kind in FLAGS.inputs:
                progress.next(f"{model}, {kind}")
                case, run = cases.case(model, base, kind)
                rows.append(in_process(case, run))
                with servers.started(base, cases.MODEL, FLAGS.local, FLAGS.batching) as server:
                    server_name = server.name
                    for protocol in FLAGS.protocols:
                        row, its_bars = served(case, server, protocol)
                        rows.append(row)
                        bars += its_bars
                        if server.has_ended():
                            break
    text = written(server_name, rows, bars)
    print(text)
    report.write(FLAGS.out, text)
    sys.exit(1 if any(bar.held is False for bar in bars) else 0)


def in_process(case, run):
    """The row of the model in this process, called by as many threads as there are clients."""
    requests = [
        clients.Request(i % len(case.examples), case.answers[i % len(case.answers)]) for i in range(FLAGS.requests)
    ]

    def connect():
        return InProcess(run, case.examples)

    clients.drive(connect, requests[: warm_up()], FLAGS.clients)
    replies, wall = clients.drive(connect, requests, FLAGS.clients)
    return _row(
        case, "in process", replies, wall, "1", ["", "", ""], clients.judge(requests, replies, lambda body: body)
    )


def served(case, server, protocol):
    """The row of a server, and what has to hold."""
    client, requests = _clients_and_requests(case, server, protocol)
    clients.drive(client, requests[: warm_up()], FLAGS.clients)
    batches, half = server.batches(), len(requests) // 2
    memory = [server.mib()]
    replies, wall = [], 0.0
    for part in (requests[:half], requests[half:]):
        some, seconds = clients.drive(client, part, FLAGS.clients)
        replies, wall = replies + some, wall + seconds
        memory.append(server.mib())
    verdict = clients.judge(requests, replies, client.func.read)
    batch = "1" if batches is None or server.has_ended() else f"{len(requests) / (server.batches() - batches):.2f}"
    row = _row(case, protocol, replies, wall, batch, [f"{mib:.0f}" for mib in memory], verdict)
    name, bad = f"{case.model}, {case.kind}, {protocol}", sum(request.answer is None for request in requests)
    if verdict.example:
        print(f"{name}: {verdict.example}", flush=True)
    growth = 100 * (memory[2] / memory[1] - 1)
    wrong = f"{name}: wrong answers and refusals of {len(requests) - bad} good requests, answers to {bad} bad ones"
    return row, [
        report.Bar(f"{name}: crashes", "<=", 0, "", float(server.has_ended())),
        report.Bar(f"{name}: lost of {len(requests)} requests", "<=", 0, "", verdict.lost),
        report.Bar(wrong, "<=", 0, "", verdict.wrong),
        report.Bar(f"{name}: memory grown from half way to the end", "<=", GROWTH, " %", growth),
    ]


def _clients_and_requests(case, server, protocol):
    """What makes a client, and the requests it has to send."""
    client, good, bad = clients.of_protocol(case, server, protocol)
    return client, clients.plan(good, bad, FLAGS.requests, FLAGS.bad)


def warm_up():
    return max(FLAGS.clients, int(FLAGS.requests * WARM_UP))


def _row(case, who, replies, wall, batch, memory, verdict):
    speed = f"{len(replies) / wall:.0f}"
    latencies = [f"{ms:.1f}" for ms in clients.percentiles([reply.seconds for reply in replies])]
    name = f"{case.model}, {case.kind}"
    return [name, who, FLAGS.clients, speed, *latencies, batch, *memory, f"{verdict.largest_difference:.0e}"]


def written(server, rows, bars):
    """The report."""
    about = (
        f"**Answered by {server}.** One clip of 8 frames of 40 x 40 a request, as a uint8 tensor or as JPEG frames; "
        f"{FLAGS.requests} requests of each case, {100 * FLAGS.bad:g} % of them bad, after {warm_up()} more. The "
        "clients are threads of one Python process, on the same cores as the server; *in process* is the served "
        "function called by as many threads. *batch*: requests in one run, 1 without batching. *largest difference*: "
        "of an output from the answer in process, relative to the largest value. Load average of the machine at the "
        f"end: {os.getloadavg()[0]:.1f}.\n"
    )
    parts = [report.heading("Serving"), about, report.table(COLUMNS, rows), "## Bars\n", report.bars(bars)]
    return "\n".join(parts)


if __name__ == "__main__":
    app.run(main)
