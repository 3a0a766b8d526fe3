r"""Turns images annotated as COCO's into the sharded TFRecords that detectors read. Rerun the same command to resume.

    keras-nonlocal prepare_coco --annotations=coco/annotations/instances_train2017.json --images=coco/train2017 \
        --out=records/coco --split=train --shards=256 --masks
    keras-nonlocal prepare_coco --annotations=coco/annotations/instances_val2017.json --images=coco/val2017 \
        --out=records/coco --split=validate --shards=32 --masks

With --keypoints, and person_keypoints_train2017.json, the records hold keypoints too. To look for broken images and
annotations without writing records, and at some of them as pictures, add --check. docs/coco_data.md says what is done
with each thing that can be wrong.
"""

from absl import flags

from keras_nonlocal.data.coco import annotations, examples, samples
from keras_nonlocal.data.records import plan, report, split

flags.DEFINE_string("annotations", None, "File of annotations in COCO's format.", required=True)
flags.DEFINE_string("images", None, "Folder of the images.", required=True)
flags.DEFINE_string("out", None, "Folder to write to.", required=True)
flags.DEFINE_string("split", None, "Names the shards.", required=True)
flags.DEFINE_integer("shards", 8, "Number of files.")
flags.DEFINE_integer("seed", 0, "Of the order of the images.")
flags.DEFINE_bool("masks", False, "Write masks of the objects.")
flags.DEFINE_bool("keypoints", False, "Write keypoints of the objects.")
flags.DEFINE_integer("max_bad", 0, "Exit with 1 when more images and annotations than this are bad.")
flags.DEFINE_integer("workers", 0, "Processes; 0 is one for each CPU.", lower_bound=0)
flags.DEFINE_bool("overwrite", False, "Remove what other options wrote for this split.")
flags.DEFINE_bool("check", False, "Only decode everything, write <out>/<split>-check.json and draw some images.")
FLAGS = flags.FLAGS


def main(_):
    listed = annotations.read(FLAGS.annotations, FLAGS.images)
    maker = examples.CocoExamples(
        images_dir=FLAGS.images, masks=FLAGS.masks, keypoints=len(listed.keypoints) if FLAGS.keypoints else 0
    )
    planned = plan.Plan(
        FLAGS.split,
        listed.images,
        listed.class_names,
        maker,
        FLAGS.shards,
        FLAGS.seed,
        {"left_out": list(listed.left_out)},
    )
    if FLAGS.check:
        found = split.check(planned, FLAGS.out, FLAGS.workers)
        drawn = samples.draw(planned, listed.edges if FLAGS.keypoints else (), FLAGS.out)
        print("\n".join(f"drawn: {path}" for path in drawn))
    else:
        found = split.write(planned, FLAGS.out, FLAGS.workers, FLAGS.overwrite)
    print(report.summary(found, planned, FLAGS.out))
    report.check_bad(found, planned, FLAGS.out, FLAGS.max_bad)
