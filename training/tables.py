"""Prints the paper's tables row by row: experiment, parameters, multiply-adds, and accuracies, the paper's and ours.

    python -m training.tables
    python -m training.tables --format=markdown --table=2e --table=2g

Networks are built and counted, not trained: some minutes for all of them. --write_configs writes the configuration file
of every row again.
"""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from absl import app, flags  # noqa: E402

from keras_nonlocal import console, errors  # noqa: E402
from keras_nonlocal.tfm.experiments import paper, paper_tables  # noqa: E402

flags.DEFINE_enum("format", "text", paper_tables.FORMATS, "Of the tables.")
flags.DEFINE_multi_enum("table", None, list(paper_tables.TABLES), "Tables to print, such as 2e; default all.")
flags.DEFINE_bool("write_configs", False, "Only write training/configs/paper/*.yaml.")
FLAGS = flags.FLAGS


@errors.exit_on_user_error
def main(_):
    console.quiet(FLAGS)
    if FLAGS.write_configs:
        for name in paper.names():
            path = pathlib.Path(paper.config_file(name))
            if path.parent.name != "paper":
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(paper.config_text(name))
        return
    for text in paper_tables.tables(FLAGS.table, FLAGS.format):
        print(text, end="\n\n", flush=True)
    print(paper_tables.CONVENTIONS)


if __name__ == "__main__":
    app.run(main)
