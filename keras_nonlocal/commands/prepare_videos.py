r"""Turns labelled videos into the sharded TFRecords the video experiments read. Rerun the same command to resume.

    keras-nonlocal prepare_videos --list=kinetics/train.csv --videos=kinetics/train --out=records \
        --split=train --shards=512
    keras-nonlocal prepare_videos --list=kinetics/validate.csv --videos=kinetics/validate --out=records \
        --split=validate --shards=64 --labels=records/labels.txt

The list may be that of Kinetics or Charades, `path,label`, or one without column names as SlowFast and mmaction2 have
them; docs/video_data.md shows each. Videos are files, folders of frames, or either in tar files
(--videos='shards/train-{000..099}.tar'). Without --list the folders are the classes, or the tars hold the labels. To
look for broken videos without writing records, add --check.
"""

from absl import flags

from keras_nonlocal.data import labels_file
from keras_nonlocal.data.records import plan, report, split
from keras_nonlocal.data.video import examples, lists

flags.DEFINE_string("list", None, "List of videos. Default: folders of classes, or the labels in the tars.")
flags.DEFINE_alias("csv", "list")
flags.DEFINE_enum("list_format", None, lists.FORMATS, "Default: what the list looks like.")
flags.DEFINE_string("videos", None, "Folder of the videos, or tar files.", required=True)
flags.DEFINE_string("out", None, "Folder to write to.", required=True)
flags.DEFINE_string("split", None, "Names the shards; picks rows if the list has a split column.", required=True)
flags.DEFINE_string("labels", None, "File of class names, one a line. Default: the list's own, sorted.")
flags.DEFINE_integer("shards", 8, "Number of files.")
flags.DEFINE_integer("seed", 0, "Of the order of the videos.")
flags.DEFINE_integer("jpeg_quality", 95, "1 to 100.")
flags.DEFINE_integer("short_side", 320, "Larger frames are shrunk to it, in pixels; 0 keeps the size.")
flags.DEFINE_float("frame_rate", 24.0, "Of videos that are folders of frames, a second.")
flags.DEFINE_bool("keep_truncated", False, "Accept fewer frames than a video's header states.")
flags.DEFINE_integer("max_bad", 0, "Exit with 1 when more videos than this are bad.")
flags.DEFINE_integer("workers", 0, "Processes; 0 is one for each CPU.", lower_bound=0)
flags.DEFINE_bool("overwrite", False, "Remove what other options wrote for this split.")
flags.DEFINE_bool("check", False, "Only decode everything and write <out>/<split>-check.json.")
FLAGS = flags.FLAGS


def main(_):
    maker = examples.VideoExamples(
        videos_dir=FLAGS.videos,
        jpeg_quality=FLAGS.jpeg_quality,
        short_side=FLAGS.short_side,
        keep_truncated=FLAGS.keep_truncated,
        frame_rate=FLAGS.frame_rate,
    )
    labels = labels_file.read(FLAGS.labels) if FLAGS.labels else None
    videos, labels = lists.read_list(FLAGS.list, FLAGS.videos, FLAGS.split, labels, FLAGS.list_format)
    if not FLAGS.labels:
        print(f"no --labels: the {len(labels)} classes are those of the list itself")
    planned = plan.Plan(FLAGS.split, videos, labels, maker, FLAGS.shards, FLAGS.seed)
    if FLAGS.check:
        found = split.check(planned, FLAGS.out, FLAGS.workers)
    else:
        found = split.write(planned, FLAGS.out, FLAGS.workers, FLAGS.overwrite)
    print(report.summary(found, planned, FLAGS.out))
    report.check_bad(found, planned, FLAGS.out, FLAGS.max_bad)
