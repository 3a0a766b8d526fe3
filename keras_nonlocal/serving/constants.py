"""Names that exported models, servers and clients agree on; some are TensorFlow Serving's, some ours."""

SAVED_MODEL_FILE = "saved_model.pb"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
# What an export is verified by, kept beside it.
GOLDEN_FOLDER = "assets.extra/golden"
SUMS_FILE = "assets.extra/SHA256SUMS"
CARD_FILE = "assets.extra/README.md"
# The graph in a SavedModel that TensorFlow Serving loads, and the signature it calls unless a request names another.
SERVE_TAG = "serve"
DEFAULT_SIGNATURE = "serving_default"
# What our exports add: encoded videos as input, and the outputs of either signature.
TF_EXAMPLE_SIGNATURE = "tf_example"
PROBABILITIES = "probabilities"
LOGITS = "logits"
# Of detectors: photos as files, and the outputs of all their signatures.
ENCODED_SIGNATURE = "encoded"
BOXES = "boxes"
CLASSES = "classes"
SCORES = "scores"
MASKS = "masks"
KEYPOINTS = "keypoints"
NUM_DETECTIONS = "num_detections"
