"""google.protobuf.Any the way containerd writes it: the type_url is the bare full name (typeurl).

Spec: containerd typeurl
"""

from __future__ import annotations

from pycontainerd.lib.api.light import wkt

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, Protocol

    class _Serializable(Protocol):
        def SerializeToString(self) -> bytes: ...


SPEC_URL = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS_URL = "types.containerd.io/opencontainers/runtime-spec/1/Process"
LINUX_RESOURCES_URL = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"


def full_name(message: object) -> str:
    """The full proto name of a message or message class of either back end."""
    name = getattr(message, "FULL_NAME", None)
    if name is None:
        descriptor: Any = message.DESCRIPTOR  # type: ignore[attr-defined]  # upb's classes are dynamic
        name = descriptor.full_name
    return str(name)


def pack(message: _Serializable) -> wkt.Any:
    """An Any of the small codec holding `message` of either back end."""
    return wkt.Any(type_url=full_name(message), value=message.SerializeToString())


def is_type(value: wkt.Any, message_class: object) -> bool:
    """Whether an Any holds a message of this class; a prefix up to the last slash is accepted."""
    return value.type_url.rpartition("/")[2] == full_name(message_class)
