"""Runs `train` or `evaluate` by several workers, each of which has a part of every batch.

    keras-nonlocal launch --workers=2 -- train --experiment=non_local_c2d_kinetics400 --config_file=kinetics400 \
        --mode=train_and_eval --model_dir=runs/non_local_c2d

    keras-nonlocal launch --hosts=ant:2222,bee:2222 --index=0 -- train --experiment=non_local_c2d_kinetics400 \
        --config_file=kinetics400 --mode=train_and_eval --model_dir=/shared/runs/non_local_c2d

The first starts all workers here, for CPUs: one `train` takes all GPUs of a machine. The second is run on each of
several machines, with --index 0, 1 and so on, which share the folder of the run and the records. Behind -- is the
command, whose workers are multi_worker_mirrored whatever the configuration says. When one of them is lost the others
stop within a minute, with exit code 75; the same command goes on from the last checkpoint.
"""

from absl import flags

from keras_nonlocal import cluster, errors

flags.DEFINE_integer("workers", None, "How many workers to start on this machine.", lower_bound=1)
flags.DEFINE_list("hosts", None, "host:port of the worker of each machine, in the same order on all of them.")
flags.DEFINE_integer("index", None, "Which of --hosts this machine is, from 0.")
FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True


def main(arguments):
    if (FLAGS.workers is None) == (FLAGS.hosts is None):
        raise errors.UserError("give --workers=N for workers on this machine, or --hosts=HOST:PORT,... with --index.")
    if FLAGS.hosts is not None:
        cluster.join(FLAGS.hosts, FLAGS.index, arguments[1:])
    elif FLAGS.index is not None:
        raise errors.UserError("--index goes with --hosts: leave it out.")
    cluster.launch(FLAGS.workers, arguments[1:])
