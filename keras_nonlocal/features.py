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
