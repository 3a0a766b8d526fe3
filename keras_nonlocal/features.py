"""Keys of what a record holds: those that tf-models-official reads, where it has such."""

# Encoded images: a feature list of one for each frame of a video, or a feature of one photo.
ENCODED = "image/encoded"
FORMAT = "image/format"
HEIGHT = "image/height"
WIDTH = "image/width"
FRAME_RATE = "image/frame_rate"
# Of a video, in its context.
LABEL_INDEX = "clip/label/index"
LABEL_NAME = "clip/label/string"
DATA_PATH = "clip/data_path"
# Of a video whose labels have times: a class, and the first and the last frame of the record where it happens.
ACTION_INDEX = "clip/action/index"
ACTION_FIRST = "clip/action/first"
ACTION_LAST = "clip/action/last"
