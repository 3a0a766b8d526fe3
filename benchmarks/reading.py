"""What does it cost that training data are a function of the seed and the number of the example?

    python benchmarks/reading.py --out=docs/benchmarks/reading.md

Reads the same files with our keyed reader and with tf-models-official's, which shuffles files and a buffer, records
alone and clips with the same parser; and makes the index of 240,000 records in 512 files, as a run does when it starts.
"""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

import pathlib  # noqa: E402
import struct  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402

import command_line  # noqa: E402
import numpy as np  # noqa: E402
import reading_inputs  # noqa: E402
import report  # noqa: E402
import side_by_side  # noqa: E402
from absl import app, flags  # noqa: E402
from side_by_side import Contestant  # noqa: E402

from keras_nonlocal.data.records import index  # noqa: E402

# Of a clip: the network with the least to decode for each second of video, and that with the most.
CASES = {"records alone": (False, 8, 8), "8 frames of stride 8": (True, 8, 8), "32 frames of stride 2": (True, 32, 2)}
READERS = ("tfm", "keyed")
# Kinetics-400's training videos.
KINETICS = (512, 469)
# What is lost at the most.
LOSS = 1.05

command_line.define_choices("cases", CASES)
flags.DEFINE_integer("files", 12, "TFRecord files that are made.", lower_bound=2)
flags.DEFINE_integer("clips", 6, "Videos in each of them.", lower_bound=1)
flags.DEFINE_integer("batch", 8, "Clips of a batch.", lower_bound=1)
flags.DEFINE_list("index", list(map(str, KINETICS)), "Files, and records in each, of the index; 0 files for none.")
command_line.define_rounds(side_by_side.BUDGET)
flags.DEFINE_string("out", "docs/benchmarks/reading.md", "Where the report goes; empty to only print it.")
FLAGS = flags.FLAGS


def main(_):
    parts = [report.heading("Reading clips"), "How to read this: benchmarks/README.md.\n"]
    with tempfile.TemporaryDirectory() as folder:
        pattern, size = reading_inputs.write(folder, FLAGS.files, FLAGS.clips)
        parts.append(
            f"{FLAGS.files} files of {FLAGS.clips} videos of {reading_inputs.FRAMES} frames, {reading_inputs.WIDTH} x "
            f"{reading_inputs.HEIGHT}, {size / 1000:.0f} kB a frame, in the page cache; batches of {FLAGS.batch}.\n"
        )
        progress = report.Progress(len(FLAGS.cases))
        races = {}
        for case in FLAGS.cases:
            progress.next(case)
            races[case] = side_by_side.race(contestants(case, pattern), FLAGS.rounds)
    parts.append(report.bars([bar(case, race) for case, race in races.items()]))
    for case, race in races.items():
        parts += [f"## {case}\n", report.times(race), rates(race)]
    files, records = map(int, FLAGS.index)
    if files:
        parts.append(f"## The index\n\n{index_times(files, records)}")
    text = "\n".join(parts)
    print(text)
    report.write(FLAGS.out, text)


def contestants(case, pattern):
    """Both readers."""
    decode, frames, stride = CASES[case]
    arguments = dict(input_path=pattern, decode=decode, batch=FLAGS.batch, frames=frames, stride=stride)
    return [
        Contestant(reader, "reading_inputs", "Batches", dict(reader=reader, **arguments), tolerance=None)
        for reader in READERS
    ]


def bar(case, race):
    """How many times the time of tfm's reader ours takes."""
    reached = report.ratio(race.median("keyed"), race.median("tfm"))
    return report.Bar(f"{case}: keyed / tfm", "<=", LOSS, "x", reached, race.one_core)


def rates(race):
    """Examples a second of each reader, and the CPU time of one, which hardly depends on what else the machine does."""
    count = reading_inputs.BATCHES * FLAGS.batch
    found = []
    for name, timing in race.timings.items():
        if isinstance(timing, side_by_side.Timing):
            cpu = timing.median * timing.cpu_per_wall / count * 1000
            found.append(f"{name} {count / timing.median:.1f} examples/s, {cpu:.1f} ms of CPU each")
    return "; ".join(found) + ".\n"


def index_times(files, records):
    """A sentence on the time that index.read takes, for the first time and when the headers are in the page cache."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, str(file)) for file in range(files)]
        # Records of 1 MB that take no room: what is between the headers is never written.
        length = struct.pack("<Q", 2**20)
        checksum = index.masked_crc32c(np.frombuffer(length, np.uint8)[None]).astype("<u4").tobytes()
        for path in paths:
            with open(path, "wb") as file:
                for record in range(records):
                    file.seek(record * (2**20 + 16))
                    file.write(length + checksum)
                file.truncate(records * (2**20 + 16))
        descriptors = [os.open(path, os.O_RDONLY) for path in paths]
        os.sync()
        for descriptor in descriptors:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            found = len(index.read(paths))
            seconds.append(time.perf_counter() - start)
    kind = _file_system(tempfile.gettempdir())
    return (
        f"{found:,} records of 1 MB in {files} files on {kind}: {seconds[0]:.1f} s with an empty page cache, "
        f"{min(seconds[1:]):.1f} s again.\n"
    )


def _file_system(path):
    """The kind of the file system that a path is on."""
    mounts = [line.split()[1:3] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    path = os.path.realpath(path)
    return max((mount for mount in mounts if path.startswith(mount[0])), key=lambda mount: len(mount[0]))[1]


if __name__ == "__main__":
    app.run(main)
