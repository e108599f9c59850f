"""A service manager to be tested against: it answers as systemd's, makes cgroups, and remembers what it was asked.

It listens as a bus of its own (DBUS_SYSTEM_BUS_ADDRESS). That Debian's runc works with it is what makes it a judge.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pycontainerd.lib import dbus

if TYPE_CHECKING:
    from pathlib import Path

ROOT = "/sys/fs/cgroup"
# The hierarchies that systemd itself uses for a scope; the rest is the runtime's.
OWN = ("systemd", "unified") if os.path.isdir(f"{ROOT}/systemd") else ("",)
MANAGER = "org.freedesktop.systemd1.Manager"


def slice_path(name: str) -> str:
    parts = name.removesuffix(".slice").split("-")
    return "/".join("-".join(parts[: at + 1]) + ".slice" for at in range(len(parts)))


class FakeSystemd:
    """`calls` are (method, arguments); `units` name -> cgroup path; `result` is how the next jobs end."""

    def __init__(self, path: Path, version: str = "252 (252.1-1)") -> None:
        self.address = f"unix:path={path}"
        self.version = version
        self.result = "done"
        self.calls: list[tuple[str, list[Any]]] = []
        self.units: dict[str, str] = {}
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._serial = 0
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._spawn(self._accept)

    def _spawn(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for peer in (self._listener, *self._peers):
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            peer.close()
        for thread in self._threads:
            thread.join(5)
        for unit in list(self.units):
            self._remove(unit)

    def properties(self, method: str) -> dict[str, Any]:
        """The properties of the last call of a method, merged in their order."""
        arguments = [arguments for name, arguments in self.calls if name == method][-1]
        return dict(arguments[2])

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._peers.append(peer)
            self._spawn(self._serve, peer)

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError), peer.makefile("rb") as file:
            file.read(1)
            while (line := file.readline()) and not line.startswith(b"BEGIN"):
                if line.startswith(b"AUTH EXTERNAL") and len(line.split()) == 2:
                    peer.sendall(b"DATA\r\n")
                elif line.startswith((b"DATA", b"AUTH EXTERNAL")):
                    peer.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
                elif line.startswith(b"NEGOTIATE_UNIX_FD"):
                    peer.sendall(b"AGREE_UNIX_FD\r\n")
                else:
                    peer.sendall(b"REJECTED EXTERNAL\r\n")
            while len(head := file.read(16)) == 16:
                message = dbus.unpack(head + file.read(dbus.message_size(head) - 16))
                self._answer(peer, message)

    def _send(
        self, peer: socket.socket, kind: int, fields: dict[int, Any], signature: str, *body: Any
    ) -> None:
        with self._lock:
            self._serial += 1
            fields = {dbus.SENDER: "org.freedesktop.systemd1", **fields}
            with suppress(OSError):
                peer.sendall(dbus.pack(kind, self._serial, fields, signature, list(body)))

    def _answer(self, peer: socket.socket, message: dbus.Message) -> None:
        reply = {dbus.REPLY_SERIAL: message.serial}
        member = message.fields[dbus.MEMBER]
        if member == "Hello":
            self._send(peer, dbus.METHOD_RETURN, reply, "s", ":1.1")
            return
        if member == "Get":
            value = {"Version": self.version, "ControlGroup": "/"}.get(message.body[1], "")
            self._send(peer, dbus.METHOD_RETURN, reply, "v", ("s", value))
            return
        if message.fields.get(dbus.INTERFACE) == MANAGER:
            self.calls.append((member, message.body))
        if member not in ("StartTransientUnit", "StopUnit", "ResetFailedUnit"):
            self._send(peer, dbus.METHOD_RETURN, reply, "")
            return
        unit = message.body[0]
        if member == "StartTransientUnit" and unit in self.units:
            self._fail(peer, reply, "UnitExists", f"Unit {unit} already exists.")
        elif member != "StartTransientUnit" and unit not in self.units:
            self._fail(peer, reply, "NoSuchUnit", f"Unit {unit} not loaded.")
        elif member == "ResetFailedUnit":
            self._send(peer, dbus.METHOD_RETURN, reply, "")
        else:
            self._job(peer, reply, member, message.body)

    def _fail(self, peer: socket.socket, reply: dict[int, Any], name: str, text: str) -> None:
        fields = {**reply, dbus.ERROR_NAME: f"org.freedesktop.systemd1.{name}"}
        self._send(peer, dbus.ERROR, fields, "s", text)

    def _job(self, peer: socket.socket, reply: dict[int, Any], member: str, body: list[Any]) -> None:
        number = len(self.calls)
        job = f"/org/freedesktop/systemd1/job/{number}"
        if member == "StopUnit":
            self._remove(body[0])
        elif self.result == "done":
            self._make(body[0], dict(body[2]))
        self._send(peer, dbus.METHOD_RETURN, reply, "o", job)
        fields = {
            dbus.PATH: "/org/freedesktop/systemd1",
            dbus.INTERFACE: MANAGER,
            dbus.MEMBER: "JobRemoved",
        }
        for other in list(self._peers):
            self._send(other, dbus.SIGNAL, fields, "uoss", number, job, body[0], self.result)

    def _make(self, unit: str, wanted: dict[str, Any]) -> None:
        parent = wanted["Slice"][1] if "Slice" in wanted else wanted["Wants"][1][0]
        self.units[unit] = f"{slice_path(parent)}/{unit}"
        for hierarchy in OWN:
            folder = f"{ROOT}/{hierarchy}/{self.units[unit]}"
            os.makedirs(folder, exist_ok=True)
            for pid in wanted["PIDs"][1]:
                with open(f"{folder}/cgroup.procs", "w") as file:
                    file.write(str(pid))

    def _remove(self, unit: str) -> None:
        path = self.units.pop(unit)
        for hierarchy in OWN:
            folder = f"{ROOT}/{hierarchy}/{path}"
            with suppress(OSError):
                os.rmdir(folder)
