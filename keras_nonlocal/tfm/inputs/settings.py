"""What of tfm's DataConfig means something for our clips. A setting that would do nothing is refused."""

from official.vision.configs import video_classification as tfm_configs

from keras_nonlocal import errors
from keras_nonlocal.tfm.inputs import clips, video_files

_AUGMENTATION = "clips are augmented as in the paper: by scale, crop and mirroring"
_ORDER = "each epoch reads the records in an order of its own, whatever file they are in"
_TFDS = "clips are read from TFRecord files: convert the data set with keras-nonlocal prepare_videos"
_SERVICE = "its workers would not keep the order of the examples"
_AUDIO = "the networks see frames only"
# Settings that have to be what tfm has them by default, and why.
REFUSED = {
    "aug_type": _AUGMENTATION,
    "mixup_and_cutmix": _AUGMENTATION,
    "random_stride_range": "the frames of every clip are temporal_stride apart",
    "aug_random_rotation": _AUGMENTATION,
    "aug_min_aspect_ratio": _AUGMENTATION,
    "aug_max_aspect_ratio": _AUGMENTATION,
    "aug_min_area_ratio": _AUGMENTATION,
    "aug_max_area_ratio": _AUGMENTATION,
    "zero_centering_image": "pixels are scaled as in the official code",
    "output_audio": _AUDIO,
    "audio_feature": _AUDIO,
    "audio_feature_shape": _AUDIO,
    "data_format": "the networks take channels last",
    "input_image_format": "records hold JPEG images",
    "compressed_input": "a record is read from its place in the file, which a compressed file does not have",
    "tfds_name": _TFDS,
    "tfds_split": _TFDS,
    "tfds_data_dir": _TFDS,
    "tfds_as_supervised": _TFDS,
    "tfds_skip_decoding_feature": _TFDS,
    "cycle_length": _ORDER,
    "block_length": _ORDER,
    "sharding": "every worker reads its own part of each batch",
    "enable_tf_data_service": _SERVICE,
    "tf_data_service_address": _SERVICE,
    "tf_data_service_job_name": _SERVICE,
    "enable_shared_tf_data_service_between_parallel_trainers": _SERVICE,
    "apply_tf_data_service_before_batching": _SERVICE,
    "trainer_id": _SERVICE,
}
# Notes for people, which nothing reads in tfm either; and the size of a buffer, which a whole order does not need.
UNREAD = ("name", "variant_name", "num_examples", "shuffle_buffer_size")
# What says where videos are that are read without records.
OF_VIDEOS = ("videos", "labels", "split", "list_format", "video_decoder")
CHOICES = {
    "file_type": ("tfrecord", "video"),
    "outside_frames": clips.OUTSIDE_FRAMES,
    "scale_sampling": clips.SCALE_SAMPLING,
}


def check(params: tfm_configs.DataConfig) -> None:
    """Refuses settings that cannot be followed.

    Args:
      params: a DataConfig of video_classification.

    Raises:
      UserError: for the first of them.
    """
    part = "train_data" if params.is_training else "validation_data"

    def refuse(name, rule):
        raise errors.UserError(f"task.{part}.{name} {rule}. Received: {name}={getattr(params, name)!r}")

    default = tfm_configs.DataConfig()
    for name, reason in REFUSED.items():
        if getattr(params, name) != getattr(default, name):
            refuse(name, f"must be left at {getattr(default, name)!r}, for {reason}")
    if params.deterministic is False:
        refuse(
            "deterministic", "must be left out or true, for examples come in an order that is a function of the seed"
        )
    if not isinstance(params.input_path, str | list | tuple):
        refuse("input_path", "must be a pattern of files or a list of them, for data sets are not mixed")
    if params.is_multilabel and not params.one_hot:
        refuse("one_hot", "must be left at True, for a clip is of any number of classes")
    for name, choices in CHOICES.items():
        if getattr(params, name) not in choices:
            refuse(name, f"must be one of {', '.join(choices)}")
    _check_videos(params, refuse)
    if len(params.feature_shape) != 4 or params.feature_shape[3] != 3:
        refuse("feature_shape", "must be [frames, height, width, 3]")
    if params.temporal_stride < 1:
        refuse("temporal_stride", "must be at least 1")
    if params.is_training:
        if params.min_image_size < max(params.feature_shape[1:3]):
            height, width = params.feature_shape[1:3]
            refuse("min_image_size", f"must be at least {max(height, width)}, for crops are {height} x {width}")
        if params.max_image_size < params.min_image_size:
            refuse("max_image_size", f"must be at least min_image_size, {params.min_image_size}")


def _check_videos(params, refuse):
    if params.file_type != "video":
        default = type(params)()
        for name in OF_VIDEOS:
            # What tfm's experiments call their part is a note.
            if name != "split" and getattr(params, name) != getattr(default, name):
                refuse(name, "is for videos that are read without records: set file_type: video, or leave it out")
        return
    for name in ("videos", "labels"):
        if not getattr(params, name):
            refuse(name, "must be given with file_type: video")
    if params.video_decoder not in video_files.DECODERS:
        refuse("video_decoder", f"must be one of {', '.join(video_files.DECODERS)}")
    if params.cache:
        refuse("cache", "must be left at False with file_type: video, whose pixels would fill the memory")
