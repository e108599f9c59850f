"""Containers from bundles: the library behind pyrunc and the shim."""

from __future__ import annotations

# Everything that a forked child may import on its way, so that a warm process has it before it forks.
_MODULES = (
    "container",
    "create",
    "exec",
    "hooks",
    "init.joined",
    "init.standard",
    "init.terminal",
    "rootfs.cgroup",
    "rootfs.device",
    "rootfs.filesystem",
    "rootfs.mask",
    "rootfs.mounts",
    "seccomp",
)
_LIBRARY = (
    "cgroups.oom",
    "cgroups.v1",
    "cgroups.v1_resources",
    "cgroups.v1_stats",
    "cgroups.v2",
    "cgroups.v2_devices",
    "cgroups.v2_resources",
    "cgroups.v2_stats",
    "linux.bpf",
    "linux.fd",
    "linux.hostname",
    "linux.keyring",
    "linux.personality",
    "linux.rlimits",
    "linux.seccomp",
    "linux.tree",
    "oci.document",
)


def preload() -> None:
    """Imports every module that a forked child will need (for the forkserver)."""
    import _socket
    import fcntl

    for name in _MODULES:
        __import__(f"pycontainerd.runtime.libcontainer.{name}")
    for name in _LIBRARY:
        __import__(f"pycontainerd.lib.{name}")
    _warm(_socket, fcntl)


def _warm(*_modules: object) -> None:
    """Codecs and the C JSON coder are found by name at first use: make that now."""
    from pycontainerd.lib.oci.document import dumps, loads

    loads(dumps({"warm": [1, "up"]}))
    "ä".encode("utf-8", "surrogateescape").decode("utf-8", "replace")
