"""The protobuf messages of Sparkplug B, as far as this platform reads or writes them.

Written from the field numbers of the specification (Sparkplug 3.0, 6.4.1) instead of being
generated. DataSet, Template and extension values are opaque here; metadata and properties are not
declared at all, so that protobuf passes them over. The pool is its own: another library in the
same process may have the original in the default one.
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

_FILE: Final = "iotlinker/sparkplug_b.proto"
_PACKAGE: Final = "iotlinker.sparkplug"

_METRIC: Final = (
    ("name", 1, Field.TYPE_STRING),
    ("alias", 2, Field.TYPE_UINT64),
    ("timestamp", 3, Field.TYPE_UINT64),
    ("datatype", 4, Field.TYPE_UINT32),
    ("is_historical", 5, Field.TYPE_BOOL),
    ("is_transient", 6, Field.TYPE_BOOL),
    ("is_null", 7, Field.TYPE_BOOL),
)
_VALUE: Final = (
    ("int_value", 10, Field.TYPE_UINT32),
    ("long_value", 11, Field.TYPE_UINT64),
    ("float_value", 12, Field.TYPE_FLOAT),
    ("double_value", 13, Field.TYPE_DOUBLE),
    ("boolean_value", 14, Field.TYPE_BOOL),
    ("string_value", 15, Field.TYPE_STRING),
    ("bytes_value", 16, Field.TYPE_BYTES),
    ("dataset_value", 17, Field.TYPE_BYTES),
    ("template_value", 18, Field.TYPE_BYTES),
    ("extension_value", 19, Field.TYPE_BYTES),
)


def _build() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=_PACKAGE, syntax="proto2")
    metric = file.message_type.add(name="Metric")
    for name, number, kind in _METRIC:
        metric.field.add(name=name, number=number, type=kind, label=Field.LABEL_OPTIONAL)
    metric.oneof_decl.add(name="value")
    for name, number, kind in _VALUE:
        metric.field.add(
            name=name, number=number, type=kind, label=Field.LABEL_OPTIONAL, oneof_index=0
        )
    payload = file.message_type.add(name="Payload")
    payload.field.add(
        name="timestamp", number=1, type=Field.TYPE_UINT64, label=Field.LABEL_OPTIONAL
    )
    payload.field.add(
        name="metrics",
        number=2,
        type=Field.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.Metric",
        label=Field.LABEL_REPEATED,
    )
    payload.field.add(name="seq", number=3, type=Field.TYPE_UINT64, label=Field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


PayloadMessage: Final[Any] = _build()
"""The message class `Payload`; typed by nothing, since it is made here."""
