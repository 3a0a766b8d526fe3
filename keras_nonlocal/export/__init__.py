"""Models as TensorFlow Serving takes them."""
