"""Prints the demo's table and draws its pictures.

keras-nonlocal demo_report --work_dir=demo_work/seed0
"""

import os

from absl import flags

from keras_nonlocal.demo import report

flags.DEFINE_string("work_dir", None, "Folder of one seed of the demo.", required=True)
FLAGS = flags.FLAGS


def main(_):
    pictures = {
        os.path.join(FLAGS.work_dir, "curves.png"): report.draw_curves,
        os.path.join(FLAGS.work_dir, "attention.png"): report.draw_attention,
    }
    table = report.table(FLAGS.work_dir)
    for path, draw in pictures.items():
        draw(FLAGS.work_dir, path)
    print(table)
    print("pictures:", *pictures)
