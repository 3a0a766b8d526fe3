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
# Of a photo, and of each object in it: boxes as parts of its width and height.
FILE_NAME = "image/filename"
SOURCE_ID = "image/source_id"
BOX_X1 = "image/object/bbox/xmin"
BOX_X2 = "image/object/bbox/xmax"
BOX_Y1 = "image/object/bbox/ymin"
BOX_Y2 = "image/object/bbox/ymax"
OBJECT_CLASS = "image/object/class/label"
OBJECT_NAME = "image/object/class/text"
OBJECT_AREA = "image/object/area"
OBJECT_IS_CROWD = "image/object/is_crowd"
OBJECT_MASK = "image/object/mask"
# Of all keypoints of an object, one after the other: indices of pixels as parts of width and height; 0, 1 or 2.
KEYPOINT_X = "image/object/keypoint/x"
KEYPOINT_Y = "image/object/keypoint/y"
KEYPOINT_VISIBILITY = "image/object/keypoint/visibility"
