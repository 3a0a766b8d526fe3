"""SavedModels for TensorFlow Serving from a training run, of any task that has its signatures here."""

from typing import Any

import tensorflow as tf
from official.core import config_definitions as cfg
from official.core import task_factory

from keras_nonlocal import errors
from keras_nonlocal import export as exporter
from keras_nonlocal.export import folding, portable
from keras_nonlocal.serving import constants, publish
from keras_nonlocal.tfm import train
from keras_nonlocal.tfm.export import detection, image_classification, signatures, video_classification
from keras_nonlocal.tfm.tasks import answers

__all__ = [
    "detection",
    "export",
    "export_run",
    "image_classification",
    "load_run",
    "signatures",
    "video_classification",
]


def export(params: cfg.ExperimentConfig, checkpoint: str, export_dir: str, **chosen: Any) -> str:
    """Publishes a SavedModel with the signatures of the task, see the modules of this package.

    Args:
      params: the ExperimentConfig of the training run.
      checkpoint: path of a checkpoint of it.
      export_dir: `saved_models/<name>`; the version is the next free number in it.
      chosen: fields of keras_nonlocal.export.Options, as `padded=True`.

    Returns:
      The path of the new version.

    Raises:
      UserError: if it cannot be published, its task has no such signatures, it would not load in TensorFlow Serving, or
        answers differently when folded.
    """
    module_class = _module_class(params)
    options = exporter.Options(**chosen)
    if options.portable and module_class.random_inputs(params) is None:
        raise errors.UserError(
            f"the blocks of a model of the task {type(params.task).__name__} cannot be made portable, because it is no "
            "graph of layers: leave out --portable"
        )
    model = task_factory.get_task(params.task).build_model()

    def write(folder):
        _restore(model, checkpoint)
        inputs = module_class.random_inputs(params) if options.fold_norms else None
        network = model if inputs is None else folding.folded(model, inputs)
        if options.portable:
            print(_made_portable(network, params))
        module = module_class(params, network)  # A tf.function does not keep the object whose method it is.
        served = module.signatures()
        if options.explain:
            try:
                served |= module.explain(options.explain_block, options.explain_top_k)
            except ValueError as error:
                raise errors.UserError(
                    f"the signature `explain` cannot be made: {error}; choose another --explain_block, or leave it out "
                    "with --noexplain"
                ) from error
        if options.padded:
            served[constants.PADDED_SIGNATURE] = _padded_signature(module)
        exporter.write(served, network, folder, options)

    return publish.publish(write, export_dir)


def load_run(experiment: str, model_dir: str) -> signatures.Signatures:
    """The served functions over the network of a training run, as its newest checkpoint has it, with its norms.

    Args:
      experiment: the registered experiment that was trained.
      model_dir: folder of the run.

    Raises:
      UserError: there is no such experiment or checkpoint, or the task has no signatures.
    """
    params = train.load_experiment(experiment, model_dir)
    module_class = _module_class(params)
    model = task_factory.get_task(params.task).build_model()
    _restore(model, train.latest_checkpoint(model_dir))
    return module_class(params, model)


def _module_class(params):
    module_class = signatures.MODULES.find(params.task)
    if module_class is None:
        known = ", ".join(config_class.__name__ for config_class in signatures.MODULES)
        raise errors.UserError(
            f"a model of the task {type(params.task).__name__} cannot be exported: export one of {known}, or write the "
            "signatures of this task as keras_nonlocal/tfm/export/video_classification.py does."
        )
    return module_class


def _restore(model, checkpoint):
    tf.train.Checkpoint(model=model).read(checkpoint).assert_existing_objects_matched().expect_partial()


def _made_portable(network, params):
    shape = answers.of(params.task).input_shape(params.task.validation_data)
    try:
        return portable.portable(network, shape)
    except ValueError as error:
        raise errors.UserError(f"{error}; leave out --portable") from error


def _padded_signature(module):
    signature = module.padded_signature()
    if signature is None:
        raise errors.UserError(
            f"a model of the task {type(module.params.task).__name__} has no signature for inputs of several sizes in "
            "one batch: leave out --padded"
        )
    return signature


def export_run(experiment: str, model_dir: str, export_dir: str, **chosen: Any) -> str:
    """Publishes the newest checkpoint of a training run; see export."""
    params = train.load_experiment(experiment, model_dir)
    return export(params, train.latest_checkpoint(model_dir), export_dir, **chosen)
