"""Prints the demo's table and draws its pictures.

keras-nonlocal demo_report --work_dir=demo_work/seed0
"""

import os

from absl import flags

from keras_nonlocal.demo import report

flags.DEFINE_string("work_dir", None, "Folder of one seed of the demo.", required=True)
FLAGS = flags.FLAGS


def main(_):
    curves = os.path.join(FLAGS.work_dir, "curves.png")
    table = report.table(FLAGS.work_dir)
    report.draw_curves(FLAGS.work_dir, curves)
    seen = report.draw_attention(FLAGS.work_dir, FLAGS.work_dir)
    print(table)
    print(seen)
    print("pictures:", curves, *(os.path.join(FLAGS.work_dir, name) for name in report.ATTENTION))
