"""From `linux.seccomp` of config.json to the filter that init loads.

Spec:    runtime-spec config-linux.md#seccomp
Man:     seccomp(2)
Runs in: parent
"""

from __future__ import annotations

import ctypes

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.linux.seccomp import FILTER_FLAGS, SockFprog, compile_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SECCOMP_FILTER_FLAG_NEW_LISTENER = 8


class Filter:
    """A compiled filter in memory that stays put: `pointer` is what seccomp(2) takes."""

    __slots__ = ("_buffer", "_program", "flags", "listener", "listener_document", "pointer")

    def __init__(self, code: bytes, flags: int) -> None:
        self._buffer = ctypes.create_string_buffer(code, len(code))
        self._program = SockFprog(len(code) // 8, ctypes.addressof(self._buffer))
        self.pointer = ctypes.addressof(self._program)
        self.flags = flags
        self.listener: Any = None
        self.listener_document: dict[str, Any] = {}

    def listener_payload(self, pid: int) -> bytes:
        """The container-process-state for the listener; `pid` is the process's own, as the host counts. Spec: config-linux.md"""
        from pycontainerd.lib.oci.document import dumps

        document = {**self.listener_document, "pid": pid}
        state = document["state"]
        return dumps({**document, "state": {**state, "pid": state.get("pid") or pid}}).encode()


def prepare(seccomp: dict[str, Any] | None, cache_dir: str, container_state: bytes = b"{}") -> Filter | None:
    """The filter of a config, from the cache when it was compiled before; None when there is none.

    With a listenerPath the socket is connected here, where the host's paths still are.
    """
    if not seccomp or not seccomp.get("defaultAction"):
        return None
    flags = 0
    for name in seccomp.get("flags", []):
        if name not in FILTER_FLAGS:
            raise InvalidArgument(f"seccomp flag {name!r} not known to runc")
        flags |= FILTER_FLAGS[name]
    found = Filter(compile_filter(seccomp, cache_dir), flags)
    path = seccomp.get("listenerPath", "")
    uses_notify = any(rule["action"] == "SCMP_ACT_NOTIFY" for rule in seccomp.get("syscalls", []))
    if seccomp["defaultAction"] == "SCMP_ACT_NOTIFY":
        raise InvalidArgument("SCMP_ACT_NOTIFY cannot be used as default action")
    if uses_notify and not path:
        raise InvalidArgument('config.seccomp.listenerPath is required with "SCMP_ACT_NOTIFY"')
    if path:
        _connect(found, path, seccomp.get("listenerMetadata", ""), container_state)
    return found


def _connect(found: Filter, path: str, metadata: str, container_state: bytes) -> None:
    from _socket import socket

    from pycontainerd.lib.oci.document import loads

    connection = socket(1, 1 | 0o2000000, 0)  # AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC
    try:
        connection.connect(path)
    except OSError as error:
        raise InvalidArgument(
            f"failed to connect with seccomp agent specified in the seccomp profile: {error}"
        ) from error
    state = loads(container_state)
    found.listener = connection
    found.flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER
    found.listener_document = {
        "ociVersion": state.get("ociVersion", ""),
        "fds": ["seccompFd"],
        "pid": 0,
        "metadata": metadata,
        "state": state,
    }
