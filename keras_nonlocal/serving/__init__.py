"""Publish a SavedModel, serve it, query it. Needs the `serving` extra; imports no Keras."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_nonlocal.serving.client import Client

__all__ = ["Client"]


def __getattr__(name):
    """Imports the client where it is asked for: what publishes models needs neither gRPC nor HTTP."""
    if name != "Client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_nonlocal.serving import client

    return client.Client
