"""The small table-driven protobuf codec behind `lib.api.light`.

Proto3 wire format for the kinds that containerd's API uses: varints, doubles, strings, bytes, messages, maps, packed
repeats. Surface shared with upb: keyword constructors, attribute reads, HasField, SerializeToString, FromString, ==.
Unknown fields are skipped. Unlike upb, an unset submessage that is read is an empty value that is not kept.

Spec: protobuf encoding (https://protobuf.dev/programming-guides/encoding/)
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Self

    Fields = tuple[tuple[int, str, str, str, str], ...]
    Table = dict[str, Fields]

MAX_DEPTH = 64  # nested messages; containerd's deepest is 5
_MASK64 = (1 << 64) - 1
_REGISTRY: dict[str, type[Message]] = {}
# By package: its module's names, and the messages it may have.
_TABLES: dict[str, tuple[dict[str, Any], Table]] = {}
_WIRE = {"INT": 0, "UINT": 0, "BOOL": 0, "DOUBLE": 1, "STRING": 2, "BYTES": 2, "MESSAGE": 2}
_ZERO: dict[str, Any] = {"INT": 0, "UINT": 0, "BOOL": False, "DOUBLE": 0.0, "STRING": "", "BYTES": b""}


class DecodeError(ValueError):
    """The bytes are no message of this type."""


class Message:
    """Base of every generated message. Unset fields are unset slots; reads of them give the proto3 default."""

    __slots__ = ()
    FULL_NAME: ClassVar[str] = ""
    FIELDS: ClassVar[Fields] = ()
    _plan: ClassVar[_Plan | None] = None

    def __init_subclass__(cls) -> None:
        _REGISTRY.setdefault(cls.FULL_NAME, cls)
        cls._plan = None

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            if value is not None:
                setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Only reached for unset slots (and wrong names).
        for _, field, label, kind, ref in self.FIELDS:
            if field != name:
                continue
            if label == "REPEATED":
                value: Any = []
            elif label.startswith("MAP_"):
                value = {}
            elif kind == "MESSAGE":
                return message_class(ref)()
            else:
                return _ZERO[kind]
            setattr(self, name, value)
            return value
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def HasField(self, name: str) -> bool:
        """Whether a submessage or an optional field is set."""
        try:
            object.__getattribute__(self, name)
        except AttributeError:
            if all(row[1] != name for row in self.FIELDS):
                raise ValueError(f"{type(self).__name__} has no field {name!r}") from None
            return False
        return True

    def SerializeToString(self) -> bytes:
        """The message's bytes, fields in number order, map entries in sorted key order."""
        out = bytearray()
        _encode(self, out)
        return bytes(out)

    @classmethod
    def FromString(cls, data: bytes | memoryview) -> Self:
        """The message in `data`; DecodeError when it is none."""
        try:
            decoded: Self = _decode(cls, memoryview(data), 0)
            return decoded
        except (IndexError, UnicodeDecodeError, struct.error) as error:
            raise DecodeError(f"{cls.FULL_NAME}: {error}") from error

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, Message)
        return self.SerializeToString() == other.SerializeToString()

    __hash__ = None  # type: ignore[assignment]  # mutable, like upb's

    def __repr__(self) -> str:
        fields = [f"{row[1]}={getattr(self, row[1])!r}" for row in self.FIELDS if _is_set(self, row[1])]
        return f"{type(self).__name__}({', '.join(fields)})"


def lazy(module: dict[str, Any], package: str, table: Table) -> Callable[[str], type[Message]]:
    """The __getattr__ of a module of messages, whose names are `module`: a class is made when somebody asks for it.

    A command needs some thirty of the two hundred in the modules that it loads. `table` has each message's fields as in
    Message.FIELDS.
    """
    _TABLES[package] = module, table

    def find(name: str) -> type[Message]:
        if name in table:
            return message_class(f"{package}.{name}")
        raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}")

    return find


def message_class(full_name: str) -> type[Message]:
    """The class of a message of a module that has been imported; KeyError when there is none."""
    found = _REGISTRY.get(full_name)
    if found is None:
        package, _, name = full_name.rpartition(".")
        module, table = _TABLES[package]
        fields = table[name]
        body = {
            "__module__": module["__name__"],
            "__slots__": tuple(row[1] for row in fields),
            "FULL_NAME": full_name,
            "FIELDS": fields,
        }
        type(name, (Message,), body)
        found = module[name] = _REGISTRY[full_name]  # another thread's, if that was faster
    return found


def before_field(message: Message, name: str, size_bytes: int) -> bytes:
    """The bytes of a message up to the value of its bytes field `name`, which whoever sends them sends behind them."""
    number = next(row[0] for row in message.FIELDS if row[1] == name)
    return message.SerializeToString() + _varint(number << 3 | 2) + _varint(size_bytes)


def split_field(number: int, payload: bytes | memoryview) -> tuple[bytes | memoryview, memoryview]:
    """A message without the first of its bytes fields of that number, and its value in place, empty where there is none.

    What is too broken to be split is left as it is: whoever decodes it says so.
    """
    data = memoryview(payload)
    at = 0
    try:
        while at < len(data):
            key, value_at = _read_varint(data, at)
            if key == (number << 3 | 2):
                value, end = _read_slice(data, value_at)
                return bytes(data[:at]) + bytes(data[end:]), value
            at = _skip(data, value_at, key & 7)
    except (DecodeError, IndexError):
        pass
    return payload, memoryview(b"")


class Method:
    """One rpc: name, request and response classes (or their messages' full names), and who streams."""

    __slots__ = ("_request", "_response", "client_streaming", "name", "server_streaming")

    def __init__(
        self,
        name: str,
        request: type[Any] | str,
        response: type[Any] | str,
        client_streaming: bool,
        server_streaming: bool,
    ) -> None:
        self.name = name
        self._request = request
        self._response = response
        self.client_streaming = client_streaming
        self.server_streaming = server_streaming

    @property
    def request(self) -> type[Any]:
        """The class of its requests."""
        if isinstance(self._request, str):
            self._request = message_class(self._request)
        return self._request

    @property
    def response(self) -> type[Any]:
        """The class of its responses."""
        if isinstance(self._response, str):
            self._response = message_class(self._response)
        return self._response


class Service:
    """A service's full name and its methods."""

    __slots__ = ("methods", "name")

    def __init__(self, name: str, methods: tuple[Method, ...]) -> None:
        self.name = name
        self.methods = methods

    def method(self, name: str) -> Method:
        """The method of that name; KeyError when there is none."""
        for method in self.methods:
            if method.name == name:
                return method
        raise KeyError(f"{self.name} has no method {name}")


class _Plan:
    """What encoding and decoding need of a class, worked out on first use."""

    __slots__ = ("by_number", "fields")

    def __init__(self, cls: type[Message]) -> None:
        rows = sorted(cls.FIELDS)
        # (name, label, kind, tag bytes, submessage class)
        self.fields = [
            (
                name,
                label,
                kind,
                _varint((number << 3) | _tag_wire(label, kind)),
                message_class(ref) if ref else None,
            )
            for number, name, label, kind, ref in rows
        ]
        self.by_number = {
            number: (name, label, kind, message_class(ref) if ref else None)
            for number, name, label, kind, ref in rows
        }


def _tag_wire(label: str, kind: str) -> int:
    if label == "REPEATED" and kind in ("INT", "UINT", "BOOL", "DOUBLE"):
        return 2  # packed
    return 2 if label.startswith("MAP_") else _WIRE[kind]


def _plan(cls: type[Message]) -> _Plan:
    plan = cls._plan
    if plan is None:
        plan = cls._plan = _Plan(cls)
    return plan


def _is_set(message: Message, name: str) -> bool:
    try:
        object.__getattribute__(message, name)
    except AttributeError:
        return False
    return True


def _varint(value: int) -> bytes:
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= _MASK64
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _scalar(kind: str, value: Any) -> bytes:
    """A value without its tag."""
    if kind == "STRING":
        data: bytes = value.encode()
        return _varint(len(data)) + data
    if kind == "BYTES":
        return _varint(len(value)) + bytes(value)
    if kind == "DOUBLE":
        return struct.pack("<d", value)
    if kind == "MESSAGE":
        data = value.SerializeToString()
        return _varint(len(data)) + data
    return _varint(int(value))


def _encode(message: Message, out: bytearray) -> None:
    get = object.__getattribute__
    for name, label, kind, tag, _ in _plan(type(message)).fields:
        try:
            value = get(message, name)
        except AttributeError:
            continue
        if label == "SINGULAR":
            if value:
                out += tag
                out += _scalar(kind, value)
        elif label == "OPTIONAL":
            out += tag
            out += _scalar(kind, value)
        elif label == "REPEATED":
            _encode_repeated(out, tag, kind, value)
        else:
            _encode_map(out, tag, label[4:], kind, value)


def _encode_repeated(out: bytearray, tag: bytes, kind: str, values: Any) -> None:
    if kind in ("INT", "UINT", "BOOL", "DOUBLE"):
        if values:
            packed = b"".join(_scalar(kind, value) for value in values)
            out += tag + _varint(len(packed)) + packed
        return
    for value in values:
        out += tag
        out += _scalar(kind, value)


def _encode_map(out: bytearray, tag: bytes, key_kind: str, kind: str, values: dict[Any, Any]) -> None:
    key_tag, value_tag = bytes((8 | _WIRE[key_kind],)), bytes((16 | _WIRE[kind],))
    for key in sorted(values):
        entry = key_tag + _scalar(key_kind, key) + value_tag + _scalar(kind, values[key])
        out += tag + _varint(len(entry)) + entry


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK64, at
        shift += 7
        if shift > 63:
            raise DecodeError("varint of more than ten bytes")


def _read_slice(data: memoryview, at: int) -> tuple[memoryview, int]:
    size, at = _read_varint(data, at)
    end = at + size
    if end > len(data):
        raise DecodeError(f"field of {size} bytes in {len(data) - at}")
    return data[at:end], end


def _skip(data: memoryview, at: int, wire: int) -> int:
    if wire == 0:
        return _read_varint(data, at)[1]
    if wire == 2:
        return _read_slice(data, at)[1]
    size = {1: 8, 5: 4}.get(wire)
    if size is None or at + size > len(data):
        raise DecodeError(f"wire type {wire}")
    return at + size


def _read_value(
    kind: str, cls: type[Message] | None, data: memoryview, at: int, depth: int
) -> tuple[Any, int]:
    """One value of `kind` at `at`."""
    if kind == "STRING":
        piece, at = _read_slice(data, at)
        return str(piece, "utf-8"), at
    if kind == "BYTES":
        piece, at = _read_slice(data, at)
        return bytes(piece), at
    if kind == "MESSAGE":
        assert cls is not None
        piece, at = _read_slice(data, at)
        return _decode(cls, piece, depth + 1), at
    if kind == "DOUBLE":
        return struct.unpack_from("<d", data, at)[0], at + 8
    value, at = _read_varint(data, at)
    if kind == "BOOL":
        return value != 0, at
    if kind == "INT" and value >> 63:
        value -= 1 << 64
    return value, at


def _decode(cls: type[Any], data: memoryview, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise DecodeError(f"messages nested deeper than {MAX_DEPTH}")
    message = cls()
    by_number = _plan(cls).by_number
    at, end = 0, len(data)
    while at < end:
        key, at = _read_varint(data, at)
        wire = key & 7
        field = by_number.get(key >> 3)
        if field is None:
            at = _skip(data, at, wire)
            continue
        name, label, kind, sub = field
        if label == "REPEATED":
            at = _decode_repeated(getattr(message, name), wire, kind, sub, data, at, depth)
        elif wire != _tag_wire(label, kind):
            at = _skip(data, at, wire)
        elif label.startswith("MAP_"):
            piece, at = _read_slice(data, at)
            _decode_entry(getattr(message, name), label[4:], kind, sub, piece, depth)
        else:
            value, at = _read_value(kind, sub, data, at, depth)
            setattr(message, name, value)
    return message


def _decode_repeated(
    values: list[Any], wire: int, kind: str, sub: type[Message] | None, data: memoryview, at: int, depth: int
) -> int:
    if wire == _WIRE[kind]:
        value, at = _read_value(kind, sub, data, at, depth)
        values.append(value)
        return at
    if wire != 2:
        return _skip(data, at, wire)
    packed, end = _read_slice(data, at)
    inside = 0
    while inside < len(packed):
        value, inside = _read_value(kind, sub, packed, inside, depth)
        values.append(value)
    return end


def _decode_entry(
    values: dict[Any, Any], key_kind: str, kind: str, sub: type[Message] | None, data: memoryview, depth: int
) -> None:
    key: Any = _ZERO[key_kind]
    value: Any = sub() if sub is not None else _ZERO[kind]
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        if tag == 8 | _WIRE[key_kind]:
            key, at = _read_value(key_kind, None, data, at, depth)
        elif tag == 16 | _WIRE[kind]:
            value, at = _read_value(kind, sub, data, at, depth)
        else:
            at = _skip(data, at, tag & 7)
    values[key] = value
