"""One shard: its videos, decoded, as tf.train.SequenceExample in the form tf-models-official reads."""

import collections
import os

import cv2
import tensorflow as tf

from keras_nonlocal.data.records import plan
from keras_nonlocal.data.records import writer as record_files
from keras_nonlocal.data.video import reader as videos

# Protocol buffers end at 2 GiB.
MAX_RECORD_BYTES = 2**31 - 2**20


def write(shard, tell):
    """Reads a shard's videos and writes its TFRecord and its report.

    Args:
      shard: plan.Shard.
      tell: function of a kind and a value: ("reading", path) before each video, ("read", None or what is bad) after it.

    Returns:
      The report, a dict.

    Raises:
      RecordsError: the disk is full or may not be written to.
    """
    record_files.remove(shard.report_file)
    with record_files.whole_file(shard.file) as temporary:
        with record_files.RecordWriter(temporary, shard.file) as writer:
            report = _read(shard, tell, lambda video, reader: writer.write(_example(video, reader, shard.options)))
    report["bytes"] = writer.size
    record_files.write_json(shard.report_file, report)
    return report


def check(shard, tell):
    """Decodes a shard's videos and writes nothing; arguments and result as `write`."""
    return _read(shard, tell, lambda video, reader: collections.deque(reader, maxlen=0))


def _read(shard, tell, use):
    """Calls use(video, reader), which must read to the end, for each video. Returns the report."""
    report = {
        "plan": shard.plan_id,
        "file": os.path.basename(shard.file),
        "videos": len(shard.videos),
        "written": 0,
        "frames": 0,
        "bytes": 0,
        "labels": collections.Counter(),
        "truncated": [],
        "bad": [],
    }
    for video in shard.videos:
        tell("reading", video.path)
        # Before reading it: a change in the meantime must count as one.
        fingerprint = plan.fingerprint(video.path)
        bad = None
        try:
            with videos.VideoReader(video.path, shard.options.keep_truncated) as reader:
                use(video, reader)
        except videos.VideoError as error:
            bad = {"name": video.name, "path": video.path, "reason": error.reason, "kind": type(error).__name__}
            report["bad"].append({**bad, "fingerprint": fingerprint})
        else:
            report["written"] += 1
            report["frames"] += reader.frames_read
            report["labels"][video.label] += 1
            if reader.truncated:
                report["truncated"].append({"name": video.name, "path": video.path, "reason": reader.truncated})
        tell("read", bad)
    return report


def _example(video, reader, options):
    """The serialised example of one video."""
    example = tf.train.SequenceExample()
    frames = example.feature_lists.feature_list["image/encoded"].feature
    size = 0
    for frame in reader:
        frame = _shrink(frame, options.short_side)
        jpeg = _jpeg(frame, options.jpeg_quality)
        frames.add().bytes_list.value.append(jpeg)
        size += len(jpeg)
        if size > MAX_RECORD_BYTES:
            raise videos.VideoError(
                video.path, f"its first {len(frames)} frames already fill the 2 GB of a record; cut it into clips"
            )
    data_path = os.path.relpath(video.path, options.videos_dir)
    if data_path.startswith(os.pardir):
        data_path = video.path
    context = example.context.feature
    context["clip/label/index"].int64_list.value.append(video.index)
    context["clip/label/string"].bytes_list.value.append(video.label.encode())
    context["clip/data_path"].bytes_list.value.append(os.fsencode(data_path))
    context["image/height"].int64_list.value.append(frame.shape[0])
    context["image/width"].int64_list.value.append(frame.shape[1])
    context["image/frame_rate"].float_list.value.append(reader.frame_rate)
    context["image/format"].bytes_list.value.append(b"jpeg")
    # Features are a map: without an order the same video would give other bytes in another run.
    return example.SerializeToString(deterministic=True)


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
