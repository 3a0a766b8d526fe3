"""`keras-nonlocal COMMAND --flags`: what the scripts of training/ and saved_models/ run, without a checkout."""

import importlib
import sys

from keras_nonlocal import console, errors

COMMANDS = {
    "prepare_videos": "labelled videos to sharded TFRecords",
    "prepare_coco": "images with boxes, masks and keypoints to sharded TFRecords",
    "train": "trains a registered experiment, on one or many devices",
    "launch": "train or evaluate by several workers that share the work, on one machine or many",
    "warm_start": "a checkpoint that starts a network with non-local blocks from one without",
    "import_weights": "a checkpoint of the official code, SlowFast or mmaction2 as weights of ours",
    "evaluate": "the test result of a trained model",
    "export": "a trained model as a SavedModel for TensorFlow Serving",
    "publish": "the published versions of a model: which there are, which one is served",
    "verify": "whether a published version, or a server of it, answers as the Keras model did",
    "describe": "what a published version takes and gives, and how to ask it",
    "serve": "serves a published model over REST and gRPC",
    "client": "a served model's predictions for a video or a photo",
    "explain": "pictures of what a model's non-local blocks attend to in a video or photo",
    "show_config": "the whole configuration of an experiment",
    "tables": "the paper's tables, with what each network costs",
    "demo": "all of it on clips that it makes itself",
    "demo_video": "all of it on real footage, of one label and of several, with trainings that are killed",
    "demo_coco": "all of it on annotated photos: boxes, masks and keypoints learned by heart",
    "study": "whether non-local blocks help on the demo's task, and which",
    "study_coco": "whether a non-local block helps a detector whose objects another object decides on",
    "make_demo_clips": "the demo's videos",
    "demo_report": "the demo's table and pictures",
}


def main():
    """The `keras-nonlocal` program: runs the command that its first argument names."""
    names = sys.argv[1:2]
    if names and names[0] in COMMANDS:
        del sys.argv[1]
        run(*names)
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {about}" for name, about in COMMANDS.items())
    text = f"usage: keras-nonlocal COMMAND [--flag=value ...]; its flags: keras-nonlocal COMMAND --help\n\n{listed}"
    if names and names[0] in ("-h", "--help", "help"):
        print(text)
        return
    print(text, file=sys.stderr)
    sys.exit(f"error: {names[0]} is no command; choose one of those above." if names else 2)


def run(name):
    """Parses the command line's flags, runs a command, and exits.

    Args:
      name: one of COMMANDS, a module of this package: flags, `main(arguments)` and, where it takes arguments that are
        no flags, TAKES_ARGUMENTS.
    """
    from absl import app, flags

    @errors.exit_on_user_error
    def load():
        return importlib.import_module(f"{__name__}.{name}")

    @errors.exit_on_user_error
    def run_main(arguments):
        console.quiet(flags.FLAGS)
        if len(arguments) > 1 and not getattr(command, "TAKES_ARGUMENTS", False):
            raise errors.UserError(f"{' '.join(arguments[1:])} is not a flag; write --name=value")
        command.main(arguments)

    command = load()
    # What absl shows for --help: this text and the flags of this module.
    sys.modules["__main__"].__doc__ = command.__doc__
    sys.argv[0] = command.__name__
    app.run(run_main)
