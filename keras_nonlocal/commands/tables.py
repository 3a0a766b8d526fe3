"""Prints the paper's tables row by row: experiment, parameters, multiply-adds, and accuracies, the paper's and ours.

    keras-nonlocal tables
    keras-nonlocal tables --format=markdown --table=2e --table=2g

Networks are built and counted, not trained: some minutes for all of them. --write_configs writes the configuration file
of every row again.
"""

from absl import flags

from keras_nonlocal import configs, files
from keras_nonlocal.tfm.experiments import paper, paper_tables

flags.DEFINE_enum("format", "text", paper_tables.FORMATS, "Of the tables.")
flags.DEFINE_multi_enum("table", None, list(paper_tables.TABLES), "Tables to print, such as 2e; default all.")
flags.DEFINE_bool("write_configs", False, "Only write keras_nonlocal/configs/paper/*.yaml again.")
FLAGS = flags.FLAGS


def main(_):
    if FLAGS.write_configs:
        for name in paper.names():
            file = paper.config_file(name)
            if file.startswith("paper/"):
                files.write_text(configs.path(file), paper.config_text(name))
        return
    for text in paper_tables.tables(FLAGS.table, FLAGS.format):
        print(text, end="\n\n", flush=True)
    print(paper_tables.CONVENTIONS)
