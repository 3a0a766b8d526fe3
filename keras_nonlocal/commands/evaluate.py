"""Evaluates a trained model of any task, videos on several clips averaged, and writes the result as JSON.

    keras-nonlocal evaluate --experiment=non_local_c2d_kinetics400 --model_dir=runs/non_local_c2d \
        --input_path='records/test-*.tfrecord' --clips=10 --crops=3 --out=runs/non_local_c2d/test.json
"""

from absl import flags

from keras_nonlocal.commands import experiment_flags
from keras_nonlocal.tfm import evaluate

experiment_flags.define_run()
flags.adopt_module_key_flags(experiment_flags)
flags.DEFINE_string("input_path", None, "Records to evaluate on; default those of task.validation_data.")
flags.DEFINE_integer("clips", None, "Clips a video, spread evenly over it; default 10.", lower_bound=1)
flags.DEFINE_enum("crops", None, ["1", "3"], "Crops a clip: the centre (default), or left, centre and right.")
flags.DEFINE_string("out", None, "JSON file to write; default none.")
FLAGS = flags.FLAGS


def main(_):
    experiment_flags.register()
    result = evaluate.evaluate(
        FLAGS.experiment,
        FLAGS.model_dir,
        FLAGS.input_path,
        FLAGS.clips,
        FLAGS.crops and int(FLAGS.crops),
        FLAGS.out,
    )
    print(evaluate.summary(result))
