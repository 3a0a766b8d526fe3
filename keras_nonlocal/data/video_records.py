"""Videos to sharded TFRecords of tf.train.SequenceExample, in the form tf-models-official reads.

A shard gets its name when it is whole, and its report after that: whatever moment a run dies at, a shard with a report
that fits the plan is complete, and everything else is written again.
"""

import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import sys
import threading
import traceback

import cv2
import tqdm

from keras_nonlocal import errors
from keras_nonlocal.data import videos

# Protocol buffers end at 2 GiB.
MAX_RECORD_BYTES = 2**31 - 2**20
# TFRecord: 8 bytes of length, 4 of its checksum, the data, 4 of its checksum.
_RECORD_OVERHEAD_BYTES = 16


class RecordsError(errors.UserError):
    """The records cannot be written as asked; the message says why and what to do."""


class BadVideosError(RecordsError):
    """More videos are bad than allowed."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides the bytes of the shards.

    Args:
      split: first part of the shards' names, such as "train".
      videos_dir: the folder `clip/data_path` is relative to.
      shards: how many files; default 8.
      seed: of the order of the videos; default 0.
      jpeg_quality: 1 to 100; default 95.
      short_side: frames with a longer short side are shrunk to it, pixels; default 320. 0 keeps the size.
      keep_truncated: whether to accept videos with fewer frames than their header states; default False.

    Raises:
      RecordsError: a value out of range.
    """

    split: str
    videos_dir: str
    shards: int = 8
    seed: int = 0
    jpeg_quality: int = 95
    short_side: int = 320
    keep_truncated: bool = False

    def __post_init__(self):
        _require(re.fullmatch(r"[\w.-]+", self.split), "split", self.split, "of letters, digits, '.', '_' and '-'")
        _require(1 <= self.shards < 10**5, "shards", self.shards, "1 to 99999")
        _require(1 <= self.jpeg_quality <= 100, "jpeg_quality", self.jpeg_quality, "1 to 100")
        _require(self.short_side >= 0, "short_side", self.short_side, "0 (keep the size) or more")


def write_records(listed, labels, out_dir, options, workers=0, overwrite=False):
    """Writes `<out_dir>/<split>-00000-of-00008.tfrecord` and so on, reports and labels.txt. Rerun it to resume.

    Each record holds the feature list `image/encoded` (one JPEG a frame) and the context `clip/label/index`,
    `clip/label/string`, `clip/data_path`, `image/height`, `image/width`, `image/frame_rate` and `image/format`.

    Args:
      listed: list of video_lists.LabelledVideo.
      labels: list of class names.
      out_dir: the folder, made when missing.
      options: Options.
      workers: processes; default 0 is one for each CPU. With 1 the calling process does the work.
      overwrite: whether to remove what another plan wrote for this split; default False.

    Returns:
      The report, as in `<out_dir>/<split>-report.json`.

    Raises:
      RecordsError: the folder holds another plan or is in use, the disk is full, a worker died, or a signal came.
    """
    plan = _Plan(listed, labels, options)
    _make_dir(out_dir)
    with _lock(out_dir, options.split), _stoppable(), _no_temporary_files(out_dir, options.split):
        _enter_plan(plan, out_dir, overwrite)
        kept = {task.file: report for task in plan.tasks(out_dir) if (report := _complete_report(task))}
        todo = [task for task in plan.tasks(out_dir) if task.file not in kept]
        if todo:  # Until they are done, an older report would claim too much.
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(out_dir, f"{options.split}-report.json"))
        report = _final_report(plan, {**kept, **_run(todo, workers, len(listed), list(kept.values()))})
        _write_json(_report_path(report, out_dir), report)
    return report


def check_videos(listed, labels, out_dir, options, workers=0):
    """Decodes every video and writes only `<out_dir>/<split>-check.json`; arguments and errors as `write_records`."""
    # No shards here: just parts, small enough to keep all workers busy to the end.
    plan = _Plan(listed, labels, dataclasses.replace(options, shards=min(len(listed), 1000)))
    _make_dir(out_dir)
    with _stoppable():
        tasks = [dataclasses.replace(task, decode_only=True) for task in plan.tasks(out_dir)]
        report = _final_report(plan, _run(tasks, workers, len(listed), []))
        del report["shards"], report["options"]
        _write_json(_report_path(report, out_dir), report)
    return report


def summary(report, out_dir):
    """The report in a few lines for people."""
    good = f"{report['written']:,} of {report['videos']:,} videos are good, {report['frames']:,} frames"
    if "shards" in report:
        good += f", {sum(shard['bytes'] for shard in report['shards']) / 1e6:,.1f} MB"
    lines = [good]
    if report["truncated"]:
        lines.append(f"{len(report['truncated']):,} of these have fewer frames than their header states")
    if report["bad"]:
        lines.append(f"{len(report['bad']):,} are bad: the report says why")
    if "shards" in report:
        count = len(report["shards"])
        lines.append(f"shards: {os.path.join(out_dir, report['split'])}-*-of-{count:05d}.tfrecord ({count})")
        lines.append(f"labels: {os.path.join(out_dir, 'labels.txt')} ({len(report['labels'])} classes)")
    lines.append(f"report: {_report_path(report, out_dir)}")
    return "\n".join(lines)


def check_bad(report, max_bad, out_dir):
    """Raises BadVideosError when the report lists more than `max_bad` bad videos."""
    bad = len(report["bad"])
    if bad > max_bad:
        raise BadVideosError(
            f"{bad} of {report['videos']} videos are bad and {max_bad} may be (see {_report_path(report, out_dir)}); "
            f"replace them and rerun the same command, or allow them with --max_bad={bad}"
        )


def _report_path(report, out_dir):
    return os.path.join(out_dir, f"{report['split']}-{'report' if 'shards' in report else 'check'}.json")


# The plan: which video goes into which shard.


@dataclasses.dataclass(frozen=True)
class _Task:
    file: str
    videos: tuple
    options: Options
    plan_id: str
    decode_only: bool = False

    @property
    def report_file(self):
        return os.path.splitext(self.file)[0] + ".json"


class _Plan:
    def __init__(self, listed, labels, options):
        if options.shards > len(listed):
            raise RecordsError(
                f"--shards={options.shards} is more than the {len(listed)} videos of split {options.split}; "
                f"use --shards={len(listed)} or less"
            )
        # A hash for each name rather than a random shuffle: the same order for every Python and every order of rows.
        self.videos = sorted(listed, key=lambda video: _digest([options.seed, video.name]))
        self.labels = labels
        self.options = options
        self.description = {
            "split": options.split,
            "videos": len(listed),
            "list": _digest([[video.name, video.index] for video in self.videos]),
            "classes": len(labels),
            "labels": _digest(labels),
            "videos_dir": os.path.abspath(options.videos_dir),
            "shards": options.shards,
            "seed": options.seed,
            "jpeg_quality": options.jpeg_quality,
            "short_side": options.short_side,
        }
        self.id = _digest(self.description)

    def tasks(self, out_dir):
        count = self.options.shards
        for shard in range(count):
            name = f"{self.options.split}-{shard:05d}-of-{count:05d}.tfrecord"
            yield _Task(os.path.join(out_dir, name), tuple(self.videos[shard::count]), self.options, self.id)


def _digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _enter_plan(plan, out_dir, overwrite):
    """Makes sure the folder holds this plan, and nothing of this split from another one."""
    split = plan.options.split
    _check_labels(plan, out_dir, overwrite)
    path = os.path.join(out_dir, f"{split}-plan.json")
    found = _read_json(path)
    files = _files_of_split(out_dir, split)
    if found != plan.description and (found or files):
        if not overwrite:
            differs = _difference(found, plan.description) if found else f"no {path} says how they were made"
            raise RecordsError(
                f"{out_dir} holds shards of split {split} from another plan ({differs}); use another --out, "
                "or remove them with --overwrite"
            )
        # Reports first: a shard without one is never taken for a complete one.
        for file in sorted(files, key=lambda file: file.endswith(".tfrecord")):
            os.remove(file)
    _write_json(path, plan.description)
    # All splits share labels.txt; each has a temporary name of its own for it.
    labels, temporary = os.path.join(out_dir, "labels.txt"), _temporary(os.path.join(out_dir, f"{split}-labels.txt"))
    _write_text(labels, "".join(f"{label}\n" for label in plan.labels), temporary)


def _check_labels(plan, out_dir, overwrite):
    """All splits of a folder share labels.txt, so they must share the classes."""
    path = os.path.join(out_dir, "labels.txt")
    cure = f"give --labels={path} to use the same, or another --out"
    for name in sorted(os.listdir(out_dir)):
        other = _read_json(os.path.join(out_dir, name)) if name.endswith("-plan.json") else None
        if other and other["split"] != plan.options.split and other["labels"] != plan.description["labels"]:
            raise RecordsError(
                f"split {other['split']} in {out_dir} has {other['classes']} classes and split {plan.options.split} "
                f"has {len(plan.labels)} or other ones; {cure}"
            )
    if os.path.exists(path) and not overwrite:
        with open(path, encoding="utf-8") as file:
            if file.read().split("\n")[:-1] != plan.labels:
                raise RecordsError(f"{path} lists other classes than this list of videos; {cure}")


def _difference(found, wanted):
    parts = []
    if found["list"] != wanted["list"]:
        parts.append(f"the list of videos differs: {found['videos']} then, {wanted['videos']} now")
    if found["labels"] != wanted["labels"]:
        parts.append(f"the classes differ: {found['classes']} then, {wanted['classes']} now")
    for key in ("videos_dir", "shards", "seed", "jpeg_quality", "short_side"):
        if found[key] != wanted[key]:
            parts.append(f"{key} was {found[key]} and is {wanted[key]}")
    return ", ".join(parts)


def _files_of_split(out_dir, split):
    pattern = re.compile(rf"{re.escape(split)}-(\d{{5}}-of-\d{{5}}\.(tfrecord|json)|report\.json)")
    return [os.path.join(out_dir, name) for name in os.listdir(out_dir) if pattern.fullmatch(name)]


def _complete_report(task):
    """The report of a shard that needs no work, or None."""
    report = _read_json(task.report_file)
    if not report or report["plan"] != task.plan_id:
        return None
    if not os.path.exists(task.file) or os.path.getsize(task.file) != report["bytes"]:
        return None
    if report["truncated"] and not task.options.keep_truncated:
        return None
    paths = {video.name: video.path for video in task.videos}
    for bad in report["bad"]:
        if bad["fingerprint"] != _fingerprint(paths[bad["name"]]):
            return None
        if bad["kind"] == videos.TruncatedVideoError.__name__ and task.options.keep_truncated:
            return None
    return report


def _fingerprint(path):
    """Changes when the file does: its size in bytes and time in ns; None when it is missing."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


# One shard.


def _do_shard(task, tell):
    """Reads a shard's videos and writes it. tell(kind, value) hears of each video. Returns the shard's report."""
    report = {
        "plan": task.plan_id,
        "file": os.path.basename(task.file),
        "videos": len(task.videos),
        "written": 0,
        "frames": 0,
        "bytes": 0,
        "labels": collections.Counter(),
        "truncated": [],
        "bad": [],
    }
    if task.decode_only:
        _do_videos(task, report, lambda example: None, tell)
        return report
    with contextlib.suppress(FileNotFoundError):
        os.remove(task.report_file)
    with _ShardWriter(task.file) as writer:
        _do_videos(task, report, writer.write, tell)
    report["bytes"] = writer.size
    _write_json(task.report_file, report)
    return report


def _do_videos(task, report, write, tell):
    for video in task.videos:
        tell("reading", video.path)
        # Before reading it: a change in the meantime must count as one.
        fingerprint = _fingerprint(video.path)
        bad = None
        try:
            example, frames, truncated = _read_example(video, task)
        except videos.VideoError as error:
            kind = type(error).__name__
            bad = {"name": video.name, "path": video.path, "reason": error.reason, "kind": kind}
            report["bad"].append({**bad, "fingerprint": fingerprint})
        else:
            write(example)
            report["written"] += 1
            report["frames"] += frames
            report["labels"][video.label] += 1
            if truncated:
                report["truncated"].append({"name": video.name, "path": video.path, "reason": truncated})
        tell("read", bad)


def _read_example(video, task):
    """The serialised example (None when only decoding), how many frames it has and what is missing of them."""
    jpegs, size, shape = [], 0, None
    with videos.VideoReader(video.path, task.options.keep_truncated) as reader:
        for frame in reader:
            if task.decode_only:
                continue
            frame = _shrink(frame, task.options.short_side)
            shape = frame.shape
            jpegs.append(_jpeg(frame, task.options.jpeg_quality))
            size += len(jpegs[-1])
            if size > MAX_RECORD_BYTES:
                raise videos.VideoError(
                    video.path, f"its first {len(jpegs)} frames already fill the 2 GB of a record; cut it into clips"
                )
        example = None if task.decode_only else _serialize(video, task.options, jpegs, shape, reader.frame_rate)
        return example, reader.frames_read, reader.truncated


def _shrink(frame, short_side):
    height, width = frame.shape[:2]
    scale = short_side / min(height, width)
    if not short_side or scale >= 1:
        return frame
    return cv2.resize(frame, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def _jpeg(frame, quality):
    # OpenCV's encoder takes BGR.
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _serialize(video, options, jpegs, shape, frame_rate):
    import tensorflow as tf  # Here, not above: the process that only plans and waits need not load it.

    data_path = os.path.relpath(video.path, options.videos_dir)
    if data_path.startswith(os.pardir):
        data_path = video.path
    example = tf.train.SequenceExample()
    context = example.context.feature
    context["clip/label/index"].int64_list.value.append(video.index)
    context["clip/label/string"].bytes_list.value.append(video.label.encode())
    context["clip/data_path"].bytes_list.value.append(os.fsencode(data_path))
    context["image/height"].int64_list.value.append(shape[0])
    context["image/width"].int64_list.value.append(shape[1])
    context["image/frame_rate"].float_list.value.append(frame_rate)
    context["image/format"].bytes_list.value.append(b"jpeg")
    frames = example.feature_lists.feature_list["image/encoded"].feature
    for jpeg in jpegs:
        frames.add().bytes_list.value.append(jpeg)
    # Features are a map: without an order the same video would give other bytes in another run.
    return example.SerializeToString(deterministic=True)


class _ShardWriter:
    """Writes a TFRecord file that has its name only when it is whole and on the disk."""

    def __init__(self, path):
        import tensorflow as tf

        self.path = path
        self.size = 0
        self._temporary = _temporary(path)
        self._write_errors = (OSError, tf.errors.OpError)
        with self._clear_errors():
            self._writer = tf.io.TFRecordWriter(self._temporary)

    def write(self, record):
        with self._clear_errors():
            self._writer.write(record)
        self.size += len(record) + _RECORD_OVERHEAD_BYTES

    def __enter__(self):
        return self

    def __exit__(self, error_type, *unused):
        try:
            if error_type is None:
                with self._clear_errors():
                    self._publish()
        finally:
            with contextlib.suppress(*self._write_errors):
                self._writer.close()
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._temporary)

    def _publish(self):
        self._writer.flush()
        self._writer.close()
        written = os.path.getsize(self._temporary)
        if written != self.size:
            raise OSError(f"{written} of {self.size} bytes arrived")
        _replace(self._temporary, self.path)

    @contextlib.contextmanager
    def _clear_errors(self):
        try:
            yield
        except self._write_errors as error:
            raise _write_error(self.path, error) from error


# Files.


def _temporary(path):
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.tmp-{os.getpid()}")


def _replace(temporary, path):
    """Gives a finished file its name, in an order that also holds when the power fails."""
    _sync(temporary)
    os.replace(temporary, path)
    _sync(os.path.dirname(path) or ".")


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_text(path, text, temporary=None):
    temporary = temporary or _temporary(path)
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        _replace(temporary, path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _write_json(path, value):
    _write_text(path, json.dumps(value, indent=1) + "\n")


def _read_json(path):
    """None when there is no such file, or only what a dying disk left of it."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _write_error(path, error):
    # TensorFlow says "<temporary file>; No space left on device".
    reason = getattr(error, "strerror", None) or str(getattr(error, "message", error)).rpartition("; ")[2]
    return RecordsError(
        f"{path} cannot be written ({reason}); make room or correct the permissions of its folder and rerun the same "
        "command: complete shards are kept"
    )


def _make_dir(path):
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise RecordsError(f"folder {path} cannot be made ({error.strerror}); use another --out") from error


@contextlib.contextmanager
def _no_temporary_files(out_dir, split):
    """Removes what a dead run left, and on the way out what killed workers or a signal at a bad moment left."""
    _remove_temporary_files(out_dir, split)
    try:
        yield
    finally:
        _remove_temporary_files(out_dir, split)


def _remove_temporary_files(out_dir, split):
    """Whoever holds the lock may remove them all: their writers are dead or about to fail."""
    kinds = r"(\d{5}-of-\d{5}\.(tfrecord|json)|(plan|report|check)\.json|labels\.txt)"
    pattern = re.compile(rf"\.{re.escape(split)}-{kinds}\.tmp-\d+")
    for name in os.listdir(out_dir):
        if pattern.fullmatch(name):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(out_dir, name))


@contextlib.contextmanager
def _lock(out_dir, split):
    """Keeps a second run for the same split out; a dead run's lock is gone with it."""
    path = os.path.join(out_dir, f".{split}.lock")
    try:
        file = open(path, "w")
    except OSError as error:
        raise _write_error(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RecordsError(f"another run is writing split {split} in {out_dir}; wait for it or stop it") from error
        except OSError:
            pass  # A file system without locks.
        yield


# Processes.


def _run(tasks, workers, total, kept):
    """Does the tasks with a progress bar over videos; returns {shard file: its report}."""
    workers = min(workers or _cpus(), len(tasks))
    if workers <= 1:
        with _Progress(total, kept) as progress:
            return {task.file: _do_shard(task, progress.tell) for task in tasks}
    pool = _Pool(workers, needs_tensorflow=not tasks[0].decode_only)
    try:
        with _Progress(total, kept) as progress:
            return {task.file: report for task, report in pool.run(tasks, progress.tell)}
    finally:
        pool.kill()


class _Progress:
    """A bar over videos, and a line for each bad one, on stderr."""

    def __init__(self, total, kept):
        # A log file gets a line now and then, a terminal a live one.
        interval = 0.2 if sys.stderr.isatty() else 30
        initial = sum(report["videos"] for report in kept)
        self._bar = tqdm.tqdm(
            total=total, initial=initial, unit="video", mininterval=interval, maxinterval=interval, dynamic_ncols=True
        )
        for report in kept:
            for bad in report["bad"]:
                self._show(bad)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._bar.close()

    def tell(self, kind, value):
        if kind == "read":
            if value:
                self._show(value)
            self._bar.update()

    def _show(self, bad):
        self._bar.write(f"bad video: {bad['path']}: {bad['reason']}", file=sys.stderr)


def _cpus():
    """The CPUs this process may use, which in a container are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class _Pool:
    """Worker processes with a pipe each: a dead worker is noticed, and a dead parent as well."""

    def __init__(self, workers, needs_tensorflow):
        # Never fork this process, which may run TensorFlow's threads. The fork server is a fresh one that loads
        # TensorFlow once and starts no thread of it, so that a worker starts in milliseconds.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, *(["tensorflow"] if needs_tensorflow else [])])
        self._workers = {}
        self._reading = {}
        try:
            for _ in range(workers):
                self._start_worker(context)
        except BaseException:
            self.kill()
            raise

    def _start_worker(self, context):
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self._workers[ours] = process

    def run(self, tasks, tell):
        """Yields each task with its report, as they end."""
        waiting = collections.deque(tasks)
        current = {}

        def send_next(worker):
            current[worker] = waiting.popleft() if waiting else None
            with contextlib.suppress(BrokenPipeError):  # It died; the next receive says so.
                worker.send(current[worker])

        for worker in self._workers:
            send_next(worker)
        while busy := [worker for worker, task in current.items() if task]:
            for worker in multiprocessing.connection.wait(busy):
                kind, value = self._receive(worker)
                if kind == "report":
                    yield current[worker], value
                    send_next(worker)
                else:
                    self._reading[worker] = value if kind == "reading" else None
                    tell(kind, value)

    def _receive(self, worker):
        try:
            kind, value = worker.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._death_of(worker) from error
        if kind == "user_error":
            raise RecordsError(value)
        if kind == "crash":
            raise RuntimeError(f"a worker failed while reading {self._reading.get(worker)}:\n{value}")
        return kind, value

    def _death_of(self, worker):
        process = self._workers[worker]
        process.join()
        code = process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        video = self._reading.get(worker)
        while_reading, without = (f" while reading {video}", ", or without that video") if video else ("", "")
        return RecordsError(
            f"a worker died of {how}{while_reading}; rerun the same command (complete shards are kept), with fewer "
            f"--workers if memory is short{without}"
        )

    def kill(self):
        """Ends the workers at once; nothing they have not finished is visible."""
        for process in self._workers.values():
            process.kill()
        for connection, process in self._workers.items():
            process.join()
            connection.close()


def _serve(connection):
    """A worker's life: a task, its report, the next task, until None or the parent is gone."""
    # Ctrl-C reaches the whole process group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while task := connection.recv():
            try:
                answer = "report", _do_shard(task, lambda kind, value: connection.send((kind, value)))
            except errors.UserError as error:
                answer = "user_error", str(error)
            except (BrokenPipeError, ConnectionResetError):
                return
            except Exception:
                answer = "crash", traceback.format_exc()
            connection.send(answer)


@contextlib.contextmanager
def _stoppable():
    """Turns SIGINT and SIGTERM into a RecordsError, so that everything is cleaned up on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop(number, frame):
        for each in numbers:  # Once is enough: cleaning up takes a moment.
            signal.signal(each, signal.SIG_IGN)
        raise RecordsError(
            f"stopped by {signal.Signals(number).name}; rerun the same command to finish: complete shards are kept"
        )

    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _final_report(plan, reports):
    shards = [reports[task] for task in sorted(reports)]
    labels = collections.Counter()
    for shard in shards:
        labels.update(shard["labels"])
    keys = ("file", "videos", "written", "frames", "bytes")
    return {
        "split": plan.options.split,
        **{key: sum(shard[key] for shard in shards) for key in ("videos", "written", "frames")},
        "options": dataclasses.asdict(plan.options),
        "truncated": [video for shard in shards for video in shard["truncated"]],
        "bad": [{key: bad[key] for key in ("name", "path", "reason")} for shard in shards for bad in shard["bad"]],
        "shards": [{key: shard[key] for key in keys} for shard in shards],
        "labels": {label: labels[label] for label in plan.labels},
    }


def _require(holds, name, value, rule):
    if not holds:
        raise RecordsError(f"--{name} must be {rule}. Received: {name}={value!r}")
