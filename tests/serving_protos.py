"""The two configurations of TensorFlow Serving whose messages tensorflow-serving-api does not bring.

Names and types of the fields are those of session_bundle_config.proto and monitoring_config.proto in its sources.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2  # noqa: F401 registers them

_FIELD = descriptor_pb2.FieldDescriptorProto
_BATCHING = {
    "max_batch_size": "Int64Value",
    "batch_timeout_micros": "Int64Value",
    "max_enqueued_batches": "Int64Value",
    "num_batch_threads": "Int64Value",
    "thread_pool_name": "StringValue",
    "allowed_batch_sizes": _FIELD.TYPE_INT64,
    "pad_variable_length_inputs": _FIELD.TYPE_BOOL,
    "enable_large_batch_splitting": "BoolValue",
    "max_execution_batch_size": "Int64Value",
}


def _messages():
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/serving_protos.proto",
        package="serving_protos",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    batching = file.message_type.add(name="BatchingParameters")
    for number, (name, kind) in enumerate(_BATCHING.items(), 1):
        label = _FIELD.LABEL_REPEATED if name == "allowed_batch_sizes" else _FIELD.LABEL_OPTIONAL
        field = batching.field.add(name=name, number=number, label=label)
        if isinstance(kind, str):
            field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".google.protobuf.{kind}"
        else:
            field.type = kind
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=_FIELD.TYPE_BOOL, label=_FIELD.LABEL_OPTIONAL)
    prometheus.field.add(name="path", number=2, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    monitoring = file.message_type.add(name="MonitoringConfig")
    monitoring.field.add(
        name="prometheus_config",
        number=1,
        type=_FIELD.TYPE_MESSAGE,
        type_name=".serving_protos.PrometheusConfig",
        label=_FIELD.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClassesForFiles([file.name], pool)


_FOUND = _messages()
BatchingParameters = _FOUND["serving_protos.BatchingParameters"]
MonitoringConfig = _FOUND["serving_protos.MonitoringConfig"]
