"""Names that exported models, servers and clients agree on; some are TensorFlow Serving's, some ours."""

SAVED_MODEL_FILE = "saved_model.pb"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MODEL_PLATFORM = "tensorflow"
# Labels of versions in models.config: what clients ask for, and what a rollback goes back to.
STABLE_LABEL = "stable"
PREVIOUS_LABEL = "previous"
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
# What queries of a non-local block attend to: the arguments and outputs of its signature.
EXPLAIN_SIGNATURE = "explain"
QUERIES = "queries"
POSITIONS = "positions"
WEIGHTS = "weights"
