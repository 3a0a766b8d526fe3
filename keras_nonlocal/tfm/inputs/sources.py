"""Where clips come from, as their configuration says: records, or the videos themselves."""

from keras_nonlocal.tfm.inputs import keyed, settings, video_files


def of(params) -> keyed.Source:
    """The source of a DataConfig.

    Raises:
      UserError: for settings that cannot be followed, and for data that are not there.
    """
    settings.check(params)
    if params.file_type == "video":
        return video_files.VideoFiles(params)
    return keyed.RecordFiles(params.input_path)
