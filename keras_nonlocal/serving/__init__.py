"""Publish a SavedModel, serve it, query it. Needs the `serving` extra; imports no Keras."""
