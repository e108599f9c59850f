"""A network and mount namespace of a test's own, with CNI's folders in it: what plugins do there, the machine never sees."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

from support.programs import peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.stack import Stack

# /etc with a layer on top, for cni/net.d; empty /opt and /var/lib/cni. It ends with its stdin.
ROOM = """set -e
mount -t tmpfs tmpfs /opt
mkdir -p /opt/upper /opt/work /opt/cni/bin
mount -t overlay -o lowerdir=/etc,upperdir=/opt/upper,workdir=/opt/work overlay /etc
mkdir -p /etc/cni/net.d
mount -t tmpfs tmpfs /var/lib/cni
cp "$1"/* /opt/cni/bin
echo ready
exec cat
"""
BRIDGE = {
    "type": "bridge",
    "bridge": "cni0",
    "isGateway": True,
    "ipam": {"type": "host-local", "subnet": "10.88.7.0/24", "routes": [{"dst": "0.0.0.0/0"}]},
}


class Room:
    """The namespaces, while their holder runs; `outside` is the folder of its files as they are seen from outside."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.netns = f"/proc/{pid}/ns/net"
        self.outside = f"/proc/{pid}/root"

    def run(self, stack: Stack, program: str, *args: str) -> subprocess.CompletedProcess[str]:
        """A client on a daemon outside; plugins that it starts are in the room."""
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), "-n", "-m", "--", *stack.command(program, *args)],
            capture_output=True,
            text=True,
            timeout=60,
            env=stack.environment,
            check=False,
        )

    def configure(self, text: str | list[dict[str, Any]], name: str = "10-n1.conflist") -> None:
        """The one configuration there is: its text, or the plugins of network n1; "" for none."""
        folder = f"{self.outside}/etc/cni/net.d"
        for other in os.listdir(folder):
            os.unlink(f"{folder}/{other}")
        if isinstance(text, list):
            text = json.dumps({"cniVersion": "0.4.0", "name": "n1", "plugins": text})
        if name:
            with open(f"{folder}/{name}", "w") as file:
                file.write(text)

    def make_plugin(self, name: str, script: str) -> None:
        """A plugin of the test's own."""
        path = f"{self.outside}/opt/cni/bin/{name}"
        with open(path, "w") as file:
            file.write(f"#!/bin/sh\n{script}\n")
        os.chmod(path, 0o755)

    def addresses(self) -> list[str]:
        """What host-local has given away."""
        return self._names("networks/n1", lambda name: name[0].isdigit())

    def results(self) -> list[str]:
        """What libcni's clients remember."""
        return self._names("results", lambda _: True)

    def links(self) -> set[str]:
        """The interfaces in the room."""
        with open(f"/proc/{self.pid}/net/dev") as file:
            return {line.split(":")[0].strip() for line in file.readlines()[2:]}

    def _names(self, folder: str, wanted: Any) -> list[str]:
        try:
            return sorted(filter(wanted, os.listdir(f"{self.outside}/var/lib/cni/{folder}")))
        except FileNotFoundError:
            return []


@contextlib.contextmanager
def opened() -> Iterator[Room]:
    """A room with the real plugins."""
    plugins = os.path.dirname(peer("host-local"))
    is_new = not os.path.isdir("/var/lib/cni")
    os.makedirs("/var/lib/cni", exist_ok=True)  # for the room's own to be mounted on
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-c", ROOM, "sh", plugins],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "ready\n"
        yield Room(holder.pid)
    finally:
        holder.stdin.close()
        holder.wait(10)
        holder.stdout.close()
        if is_new:
            os.rmdir("/var/lib/cni")
