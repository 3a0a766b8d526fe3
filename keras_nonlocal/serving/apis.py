"""gRPC, HTTP, TensorFlow Serving's messages and its JSON parser: what the `serving` extra brings comes from here."""

from keras_nonlocal import errors

with errors.needs_extra("serving"):
    import grpc
    import rapidjson
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
    from tensorflow_serving.config import model_server_config_pb2

__all__ = [
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "grpc",
    "model_pb2",
    "model_server_config_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_log_pb2",
    "prediction_service_pb2_grpc",
    "rapidjson",
    "urllib3",
]
