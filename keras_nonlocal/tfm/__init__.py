"""keras_nonlocal for tf_keras and tf-models-official."""
