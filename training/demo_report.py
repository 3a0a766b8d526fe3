"""Prints the demo's table and draws its pictures.

python training/demo_report.py --work_dir=demo_work/seed0
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from absl import app, flags  # noqa: E402

from keras_nonlocal import console, errors  # noqa: E402
from keras_nonlocal.demo import report  # noqa: E402

flags.DEFINE_string("work_dir", None, "Folder of one seed of the demo.", required=True)
FLAGS = flags.FLAGS


@errors.exit_on_user_error
def main(_):
    console.quiet(FLAGS)
    curves, attention = (os.path.join(FLAGS.work_dir, name) for name in ("curves.png", "attention.png"))
    table = report.table(FLAGS.work_dir)
    report.draw_curves(FLAGS.work_dir, curves)
    seen = report.draw_attention(FLAGS.work_dir, attention)
    print(table)
    print(seen)
    print("pictures:", curves, attention)


if __name__ == "__main__":
    app.run(main)
