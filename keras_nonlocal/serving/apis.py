"""gRPC, HTTP and TensorFlow Serving's messages: what comes with the `serving` extra is imported from here."""

from keras_nonlocal import errors

with errors.needs_extra("serving"):
    import grpc
    import urllib3
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_log_pb2,
        prediction_service_pb2_grpc,
    )

__all__ = [
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "grpc",
    "model_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_log_pb2",
    "prediction_service_pb2_grpc",
    "urllib3",
]
