"""Evaluates a trained model of any task, videos on several clips averaged, and writes the result as JSON.

    python training/evaluate.py --experiment=non_local_c2d_kinetics400 --model_dir=runs/non_local_c2d \
        --input_path='records/test-*.tfrecord' --clips=10 --crops=3 --out=runs/non_local_c2d/test.json
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Its lines are not for people; its errors are exceptions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

from absl import app, flags  # noqa: E402

from keras_nonlocal import console, errors  # noqa: E402
from keras_nonlocal.demo import experiments  # noqa: E402, F401  (registers the demo's)
from keras_nonlocal.tfm import evaluate  # noqa: E402

flags.DEFINE_string("experiment", None, "Registered experiment that was trained.", required=True)
flags.DEFINE_string("model_dir", None, "Folder of the training run.", required=True)
flags.DEFINE_string("input_path", None, "Records to evaluate on; default those of task.validation_data.")
flags.DEFINE_integer("clips", None, "Clips a video, spread evenly over it; default 10.", lower_bound=1)
flags.DEFINE_enum("crops", None, ["1", "3"], "Crops a clip: the centre (default), or left, centre and right.")
flags.DEFINE_string("out", None, "JSON file to write; default none.")
FLAGS = flags.FLAGS


@errors.exit_on_user_error
def main(_):
    console.quiet(FLAGS)
    result = evaluate.evaluate(
        FLAGS.experiment,
        FLAGS.model_dir,
        FLAGS.input_path,
        FLAGS.clips,
        FLAGS.crops and int(FLAGS.crops),
        FLAGS.out,
    )
    print(evaluate.summary(result))


if __name__ == "__main__":
    app.run(main)
