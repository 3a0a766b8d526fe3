"""Writes a checkpoint that starts a network with non-local blocks from one without, or a video network from images.

    keras-nonlocal warm_start --experiment=non_local_i3d_kinetics400 --checkpoint=resnet50.weights.h5 \
        --out=runs/starts/non_local_i3d

Then train with `task.init_checkpoint: runs/starts/non_local_i3d` and `task.init_checkpoint_modules: backbone`. It
prints for every variable where it came from, or that it is new.

Of the run of a detector, RetinaNet or Mask R-CNN, it takes everything, and `init_checkpoint_modules` is `all`:

    keras-nonlocal warm_start --experiment=non_local_mask_rcnn_r50_coco --checkpoint=runs/mask_rcnn_r50 \
        --out=runs/starts/non_local_mask_rcnn
"""

from absl import flags

from keras_nonlocal.commands import experiment_flags
from keras_nonlocal.tfm import warm_start

experiment_flags.define()
flags.adopt_module_key_flags(experiment_flags)
flags.DEFINE_string("checkpoint", None, "tfm checkpoint, or .h5 or .keras file of keras.applications.", required=True)
flags.DEFINE_bool("backbone_only", False, "Take no more than the backbone of a detector's checkpoint.")
flags.DEFINE_string("out", None, "Folder to make for the new checkpoint.", required=True)
FLAGS = flags.FLAGS


def main(_):
    params = experiment_flags.params()
    report, modules = warm_start.write_task(params.task, FLAGS.checkpoint, FLAGS.out, FLAGS.backbone_only)
    print("\n".join(report.lines()))
    print(f"in {FLAGS.out}: train with task.init_checkpoint: {FLAGS.out}, task.init_checkpoint_modules: {modules}")
