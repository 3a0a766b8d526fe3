"""The mathematics of the non-local operation on TensorFlow: pairwise forms, ways to evaluate them, their gradients."""
