"""D-Bus, as much as a short-lived client needs: one blocking connection, method calls, and signals waited for.

Values are Python's own; a variant is a pair (signature, value), a dict entry a pair in a list. Messages are little-endian.
The format is small and a call is two of them; a library would cost pyrunc's whole start again.

Spec: D-Bus Specification, "Type System", "Marshaling", "Message Protocol", "Authentication Protocol"
"""

from __future__ import annotations

import struct
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE = range(1, 9)
MAX_MESSAGE = 128 << 20
BUS = "org.freedesktop.DBus"
BUS_PATH = "/org/freedesktop/DBus"
CALL_TIMEOUT_S = 30.0

# code -> (struct format, alignment, which is the size too)
_FIXED = {
    "y": ("B", 1),
    "b": ("I", 4),
    "n": ("h", 2),
    "q": ("H", 2),
    "i": ("i", 4),
    "u": ("I", 4),
    "x": ("q", 8),
    "t": ("Q", 8),
    "d": ("d", 8),
    "h": ("I", 4),
}
_ALIGNMENT = {"s": 4, "o": 4, "a": 4, "g": 1, "v": 1, "(": 8, "{": 8}


class DBusError(Exception):
    """What a peer answered, by its D-Bus name; or why there is no talking to it (then the name is empty)."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class Message:
    """One message: `fields` by the header's numbers, `body` a list of values."""

    __slots__ = ("body", "fields", "kind", "serial")

    def __init__(self, kind: int, serial: int, fields: dict[int, Any], body: list[Any]) -> None:
        self.kind = kind
        self.serial = serial
        self.fields = fields
        self.body = body


def first_type(signature: str) -> str:
    """The first complete type of a signature; ValueError when it isn't one."""
    code = signature[:1]
    if code == "a":
        return "a" + first_type(signature[1:])
    if code in ("(", "{"):
        depth = 0
        for at, letter in enumerate(signature):
            depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(letter, 0)
            if depth == 0 and at > 1:  # a struct of nothing would have no end in an array
                return signature[: at + 1]
    if code in _FIXED or code in ("s", "o", "g", "v"):
        return code
    raise ValueError(f"not a D-Bus type: {signature!r}")


def split(signature: str) -> list[str]:
    """A signature's complete types."""
    found = []
    while signature:
        found.append(first_type(signature))
        signature = signature[len(found[-1]) :]
    return found


def _align(code: str) -> int:
    return _FIXED[code[0]][1] if code[0] in _FIXED else _ALIGNMENT[code[0]]


def _pad(out: bytearray, alignment: int) -> None:
    out.extend(bytes(-len(out) % alignment))


def marshal(signature: str, values: list[Any], out: bytearray) -> None:
    """Appends values; alignment counts from the beginning of `out`."""
    for kind, value in zip(split(signature), values, strict=True):
        _marshal_one(kind, value, out)


def _marshal_one(kind: str, value: Any, out: bytearray) -> None:
    _pad(out, _align(kind))
    code = kind[0]
    if code in _FIXED:
        out += struct.pack("<" + _FIXED[code][0], value)
    elif code in ("s", "o"):
        raw = value.encode("utf-8", "surrogateescape")
        out += struct.pack("<I", len(raw)) + raw + b"\0"
    elif code == "g":
        out += bytes((len(value),)) + value.encode() + b"\0"
    elif code == "v":
        _marshal_one("g", value[0], out)
        _marshal_one(value[0], value[1], out)
    elif code == "a":
        at = len(out)
        out += b"\0\0\0\0"
        _pad(out, _align(kind[1]))  # counts for the place, not for the length
        start = len(out)
        for item in value:
            _marshal_one(kind[1:], item, out)
        struct.pack_into("<I", out, at, len(out) - start)
    else:
        marshal(kind[1:-1], list(value), out)


class _Reader:
    """Values out of a message of either byte order."""

    __slots__ = ("at", "data", "order")

    def __init__(self, data: bytes, order: str, at: int = 0) -> None:
        self.data = data
        self.order = order
        self.at = at

    def read(self, signature: str) -> list[Any]:
        return [self._one(kind) for kind in split(signature)]

    def _number(self, form: str, size: int) -> Any:
        found = struct.unpack_from(self.order + form, self.data, self.at)[0]
        self.at += size
        return found

    def _text(self, length: int) -> str:
        raw = self.data[self.at : self.at + length]
        self.at += length + 1
        return raw.decode("utf-8", "surrogateescape")

    def _one(self, kind: str) -> Any:
        self.at += -self.at % _align(kind)
        code = kind[0]
        if code in _FIXED:
            value = self._number(*_FIXED[code])
            return bool(value) if code == "b" else value
        if code in ("s", "o"):
            return self._text(self._number("I", 4))
        if code == "g":
            return self._text(self._number("B", 1))
        if code == "v":
            inner = self._one("g")
            return inner, self._one(inner)
        if code == "a":
            length = self._number("I", 4)
            self.at += -self.at % _align(kind[1])
            end, found = self.at + length, []
            while self.at < end:
                found.append(self._one(kind[1:]))
            return found
        return tuple(self.read(kind[1:-1]))


_FIELD_TYPES = {PATH: "o", SIGNATURE: "g", REPLY_SERIAL: "u"}


def pack(kind: int, serial: int, fields: dict[int, Any], signature: str, values: list[Any]) -> bytes:
    """A whole message."""
    body = bytearray()
    marshal(signature, values, body)
    if signature:
        fields = {**fields, SIGNATURE: signature}
    pairs = [(number, (_FIELD_TYPES.get(number, "s"), value)) for number, value in fields.items()]
    out = bytearray()
    marshal("yyyyuua(yv)", [ord("l"), kind, 0, 1, len(body), serial, pairs], out)
    _pad(out, 8)
    return bytes(out + body)


def message_size(head: bytes) -> int:
    """How long the message is whose first 16 bytes these are; DBusError for one that can't be."""
    order = {b"l": "<", b"B": ">"}.get(head[:1])
    if order is None or head[3] != 1:
        raise DBusError("", "not a D-Bus message")
    body, _serial, fields = struct.unpack_from(order + "III", head, 4)
    size: int = 16 + fields + -fields % 8 + body
    if size > MAX_MESSAGE:
        raise DBusError("", "D-Bus message is too long")
    return size


def unpack(data: bytes) -> Message:
    """What `pack`, or somebody else, made; DBusError when it isn't one."""
    order = "<" if data[:1] == b"l" else ">"
    try:
        _order, kind, _flags, _version, length, serial, pairs = _Reader(data, order).read("yyyyuua(yv)")
        fields = {number: value for number, (_signature, value) in pairs}
        body = _Reader(data[len(data) - length :], order).read(fields.get(SIGNATURE, ""))
    except (ValueError, struct.error, IndexError, KeyError, RecursionError) as error:
        raise DBusError("", f"malformed D-Bus message: {error}") from error
    return Message(kind, serial, fields, body)


def parse_address(address: str) -> str:
    """The path (abstract ones begin with NUL) of the first unix address in a D-Bus address; DBusError without one."""
    for item in address.split(";"):
        transport, _, rest = item.partition(":")
        if transport != "unix":
            continue
        pairs = dict(pair.partition("=")[::2] for pair in rest.split(","))
        for key, prefix in (("path", ""), ("abstract", "\0")):
            if key in pairs:
                return prefix + _unescape(pairs[key])
    raise DBusError("", f"no unix socket in the D-Bus address {address!r}")


def _unescape(text: str) -> str:
    head, *rest = text.split("%")
    return head + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)


class Connection:
    """A connection to a bus, or straight to a peer (`is_bus=False`). A context that closes it."""

    __slots__ = ("_buffer", "_serial", "_signals", "_socket")

    def __init__(self, path: str, *, is_bus: bool = True) -> None:
        """OSError when nobody listens at the path; DBusError when we are not let in."""
        from _socket import socket

        self._socket: socket = socket(1, 1 | 0o2000000, 0)  # AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC
        self._buffer = b""
        self._serial = 0
        self._signals: list[Message] = []
        try:
            self._socket.settimeout(CALL_TIMEOUT_S)
            self._socket.connect(path)
            self._authenticate()
            if is_bus:
                self.call(BUS, BUS_PATH, BUS, "Hello")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def _authenticate(self) -> None:
        # Without a number of ours: the socket says who we are, also out of a user namespace where we have another.
        self._socket.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\n")
        line = self._line()
        if line.startswith(b"DATA"):
            line = self._line()
        if not line.startswith(b"OK "):
            raise DBusError("", "D-Bus authentication was refused")
        self._socket.sendall(b"BEGIN\r\n")

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._fill()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _fill(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise DBusError("", "the D-Bus connection was closed")
        self._buffer += data

    def _receive(self) -> Message:
        while len(self._buffer) < 16 or len(self._buffer) < message_size(self._buffer[:16]):
            self._fill()
        size = message_size(self._buffer[:16])
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return unpack(data)

    def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *values: Any,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> list[Any]:
        """Calls a method and waits for its answer; signals that come meanwhile are kept for `wait_signal`."""
        self._serial += 1
        fields = {PATH: path, DESTINATION: destination, INTERFACE: interface, MEMBER: member}
        self._socket.sendall(pack(METHOD_CALL, self._serial, fields, signature, list(values)))
        deadline = monotonic() + timeout_s
        while True:
            message = self._next(deadline)
            if message.fields.get(REPLY_SERIAL) != self._serial:
                if message.kind == SIGNAL:
                    self._signals.append(message)
                continue
            if message.kind == ERROR:
                text = message.body[0] if message.body and isinstance(message.body[0], str) else ""
                name = message.fields.get(ERROR_NAME, "")
                raise DBusError(name, text or name)
            return message.body

    def _next(self, deadline: float) -> Message:
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._receive()

    def wait_signal(self, interface: str, member: str, at: int, value: Any, timeout_s: float) -> list[Any]:
        """The body of the first signal of that name whose value number `at` is `value`. TimeoutError after timeout_s."""
        deadline = monotonic() + timeout_s
        while True:
            message = self._signals.pop(0) if self._signals else self._next(deadline)
            named = (message.fields.get(INTERFACE), message.fields.get(MEMBER)) == (interface, member)
            if message.kind == SIGNAL and named and message.body[at : at + 1] == [value]:
                return message.body
