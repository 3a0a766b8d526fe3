"""Names that exported models, servers and clients agree on; some are TensorFlow Serving's, some ours."""

SAVED_MODEL_FILE = "saved_model.pb"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MODEL_PLATFORM = "tensorflow"
# Labels of versions in models.config: what clients ask for, and what a rollback goes back to.
STABLE_LABEL = "stable"
PREVIOUS_LABEL = "previous"
# What an export is verified by, kept beside it.
GOLDEN_FOLDER = "assets.extra/golden"
SUMS_FILE = "assets.extra/SHA256SUMS"
LABELS_FILE = "assets.extra/labels.txt"
CARD_FILE = "assets.extra/README.md"
# The graph in a SavedModel that TensorFlow Serving loads, and the signature it calls unless a request names another.
SERVE_TAG = "serve"
DEFAULT_SIGNATURE = "serving_default"
# What our exports add: inputs as files of images and as records, and what a classifier sees in place of its scores.
ENCODED_SIGNATURE = "encoded"
TF_EXAMPLE_SIGNATURE = "tf_example"
FEATURES_SIGNATURE = "features"
# Inputs of several sizes in one batch, and the argument that holds these sizes.
PADDED_SIGNATURE = "padded"
SIZES = "sizes"
# The arguments of signatures: clips and images as pixels, then files and records.
FRAMES = "frames"
IMAGES = "images"
ENCODED = "encoded"
EXAMPLES = "examples"
# Outputs of classifiers, and of their features; the last map has the name of its stage, as `res5`.
PROBABILITIES = "probabilities"
LOGITS = "logits"
POOLED = "pooled"
# Outputs of detectors.
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
