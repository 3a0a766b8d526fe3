r"""Turns labelled videos into the sharded TFRecords the video experiments read. Rerun the same command to resume.

    python training/prepare_videos.py --csv=kinetics/train.csv --videos=kinetics/train --out=records \
        --split=train --shards=512
    python training/prepare_videos.py --csv=kinetics/validate.csv --videos=kinetics/validate --out=records \
        --split=validate --shards=64 --labels=records/labels.txt

The CSV has the columns `label,youtube_id,time_start,time_end,split` (Kinetics) or `path,label`. To look for broken
videos without writing records, add --check.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines say nothing of videos; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from absl import app, flags  # noqa: E402

from keras_nonlocal import errors  # noqa: E402
from keras_nonlocal.data import labels_file  # noqa: E402
from keras_nonlocal.data.records import plan, report, split  # noqa: E402
from keras_nonlocal.data.video import examples, lists  # noqa: E402

_CSV = flags.DEFINE_string("csv", None, "List of videos.", required=True)
_VIDEOS = flags.DEFINE_string("videos", None, "Folder of the videos.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
_SPLIT = flags.DEFINE_string(
    "split", None, "Names the shards; picks rows if the CSV has a split column.", required=True
)
_LABELS = flags.DEFINE_string("labels", None, "File of class names, one a line. Default: the CSV's own, sorted.")
_SHARDS = flags.DEFINE_integer("shards", 8, "Number of files.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the order of the videos.")
_JPEG_QUALITY = flags.DEFINE_integer("jpeg_quality", 95, "1 to 100.")
_SHORT_SIDE = flags.DEFINE_integer("short_side", 320, "Larger frames are shrunk to it, in pixels; 0 keeps the size.")
_KEEP_TRUNCATED = flags.DEFINE_bool("keep_truncated", False, "Accept fewer frames than a video's header states.")
_MAX_BAD = flags.DEFINE_integer("max_bad", 0, "Exit with 1 when more videos than this are bad.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes; 0 is one for each CPU.", lower_bound=0)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Remove what other options wrote for this split.")
_CHECK = flags.DEFINE_bool("check", False, "Only decode everything and write <out>/<split>-check.json.")


@errors.exit_on_user_error
def main(argv):
    if len(argv) > 1:
        raise errors.UserError(f"{' '.join(argv[1:])} is not a flag; write --name=value")
    maker = examples.VideoExamples(
        videos_dir=_VIDEOS.value,
        jpeg_quality=_JPEG_QUALITY.value,
        short_side=_SHORT_SIDE.value,
        keep_truncated=_KEEP_TRUNCATED.value,
    )
    labels = labels_file.read(_LABELS.value) if _LABELS.value else None
    videos, labels = lists.read_list(_CSV.value, _VIDEOS.value, _SPLIT.value, labels)
    planned = plan.Plan(_SPLIT.value, videos, labels, maker, _SHARDS.value, _SEED.value)
    if _CHECK.value:
        found = split.check(planned, _OUT.value, _WORKERS.value)
    else:
        found = split.write(planned, _OUT.value, _WORKERS.value, _OVERWRITE.value)
    print(report.summary(found, planned, _OUT.value))
    report.check_bad(found, planned, _OUT.value, _MAX_BAD.value)


if __name__ == "__main__":
    app.run(main)
