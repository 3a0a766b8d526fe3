"""A stand-in for TensorFlow Serving where it is not installed: predict, status and metadata over REST and gRPC."""
