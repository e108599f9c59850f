"""From `linux.seccomp` of config.json to the filter that init loads.

Spec:    runtime-spec config-linux.md#seccomp
Man:     seccomp(2)
Runs in: parent
"""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.linux import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SECCOMP_FILTER_FLAG_NEW_LISTENER = 8


class Filter:
    """A compiled filter in memory that stays put: `pointer` is what seccomp(2) takes."""

    __slots__ = ("_buffer", "_dumps", "_program", "document", "flags", "listener", "pid", "pointer")

    def __init__(self, code: bytes, flags: int) -> None:
        from pycontainerd.lib.linux.seccomp import SockFprog

        self._buffer = ctypes.create_string_buffer(code, len(code))
        self._program = SockFprog(len(code) // 8, ctypes.addressof(self._buffer))
        self.pointer = ctypes.addressof(self._program)
        self.flags = flags
        self.listener: Any = None
        self.document: dict[str, Any] = {}
        self._dumps: Callable[[Any], str] = str
        self.pid = 0  # the process's, as the host sees it: known once it was cloned

    def connect(self, listener: Any, document: dict[str, Any]) -> None:
        """Who is sent the notify descriptor, and with which container process state."""
        from pycontainerd.lib.oci.document import dumps

        self.listener, self.document, self._dumps = listener, document, dumps
        self.flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER

    @property
    def listener_payload(self) -> bytes:
        """The state with the pid; init calls this before pivot_root, and loads nothing for it."""
        state = self.document["state"]
        state = {**state, "pid": state.get("pid") or self.pid}
        return self._dumps({**self.document, "pid": self.pid, "state": state}).encode()


def prepare(
    seccomp: dict[str, Any] | None, cache_dir: str, container_state: Callable[[], bytes]
) -> Filter | None:
    """The filter of a config, from the cache when it was compiled before; None when there is none.

    With a listenerPath the socket is connected here, where the host's paths still are; its listener is told `container_state`.
    """
    if seccomp is None:
        return None
    from pycontainerd.lib.linux.seccomp import FILTER_FLAGS, compile_filter

    flags = 0
    for name in seccomp.get("flags", []):
        if name not in FILTER_FLAGS:
            raise InvalidArgument(f"seccomp flag {name!r} not known to runc")
        flags |= FILTER_FLAGS[name]
    found = Filter(compile_filter(seccomp, cache_dir), flags)
    if seccomp["defaultAction"] == "SCMP_ACT_NOTIFY":
        raise InvalidArgument("SCMP_ACT_NOTIFY cannot be used as default action")
    notified = [rule for rule in seccomp.get("syscalls", []) if rule["action"] == "SCMP_ACT_NOTIFY"]
    if not notified:
        return found
    if any("write" in rule.get("names", []) for rule in notified):
        # With it init tells how far it is, which the agent would have to allow before it knows of it.
        raise InvalidArgument("SCMP_ACT_NOTIFY cannot be used for the write syscall")
    path = seccomp.get("listenerPath", "")
    if not path:
        raise InvalidArgument('config.seccomp.listenerPath is required with "SCMP_ACT_NOTIFY"')
    _connect(found, path, seccomp.get("listenerMetadata", ""), container_state)
    return found


def _connect(found: Filter, path: str, metadata: str, container_state: Callable[[], bytes]) -> None:
    from _socket import socket

    from pycontainerd.lib.oci.document import loads

    connection = socket(1, 1 | 0o2000000, 0)  # AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC
    try:
        connection.connect(path)
    except OSError as error:
        raise InvalidArgument(
            f"failed to connect with seccomp agent specified in the seccomp profile: {error}"
        ) from error
    state = loads(container_state())
    found.connect(
        connection,
        {
            "ociVersion": state.get("ociVersion", ""),
            "fds": ["seccompFd"],
            "pid": 0,
            "metadata": metadata,
            "state": state,
        },
    )
