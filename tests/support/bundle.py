"""Bundles for runtime tests: a busybox rootfs and a config.json, built a field at a time."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from support.programs import peer

if TYPE_CHECKING:
    from pathlib import Path

APPLETS = [
    "sh",
    "true",
    "false",
    "cat",
    "ls",
    "sleep",
    "id",
    "stat",
    "echo",
    "env",
    "pwd",
    "ps",
    "mount",
    "umount",
    "grep",
    "touch",
    "mkdir",
    "dd",
    "test",
    "head",
    "hostname",
    "readlink",
    "mknod",
    "tty",
    "stty",
    "kill",
    "chmod",
    "rm",
    "tail",
    "wc",
    "ln",
    "unshare",
    "sed",
    "sort",
    "nc",
    "rmdir",
    "df",
    "date",
]
NO = ("nosuid", "noexec", "nodev")


def default_spec() -> dict[str, Any]:
    """What `spec` writes, without a terminal."""
    from pycontainerd.lib.oci.template import template

    spec = template()
    spec["process"]["terminal"] = False
    return spec


def make_rootfs(path: Path) -> Path:
    """A root filesystem of one static busybox."""
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "mnt", "root"):
        (path / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(peer("busybox"), path / "bin/busybox")
    for applet in APPLETS:
        if not (path / "bin" / applet).is_symlink():
            (path / "bin" / applet).symlink_to("busybox")
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")
    return path


class BundleBuilder:
    """`BundleBuilder(tmp_path).args("cat", "/x").mount(...).build()` is the bundle's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path / "bundle"
        self.path.mkdir(exist_ok=True)
        self.rootfs = make_rootfs(self.path / "rootfs")
        self.spec = default_spec()
        # Of this test alone: cgroups are the machine's, and another run may be going on.
        self.cgroup = "/" + path.name
        self.linux["cgroupsPath"] = self.cgroup

    @property
    def process(self) -> dict[str, Any]:
        """`process`."""
        found: dict[str, Any] = self.spec["process"]
        return found

    @property
    def linux(self) -> dict[str, Any]:
        """`linux`."""
        found: dict[str, Any] = self.spec["linux"]
        return found

    def args(self, *words: str) -> BundleBuilder:
        """process.args."""
        self.process["args"] = list(words)
        return self

    def sh(self, script: str) -> BundleBuilder:
        """Runs a shell script."""
        return self.args("sh", "-c", script)

    def writable(self) -> BundleBuilder:
        """A root filesystem that can be written to."""
        self.spec["root"]["readonly"] = False
        return self

    def capabilities(self, *names: str) -> BundleBuilder:
        """The bounding, effective and permitted sets."""
        self.process["capabilities"] = {name: list(names) for name in ("bounding", "effective", "permitted")}
        return self

    def mount(
        self, destination: str, fstype: str, source: str, *options: str, first: bool = False
    ) -> BundleBuilder:
        """One more mount, last unless told otherwise."""
        entry = {"destination": destination, "type": fstype, "source": source, "options": list(options)}
        self.spec["mounts"].insert(0 if first else len(self.spec["mounts"]), entry)
        return self

    def without_namespace(self, kind: str) -> BundleBuilder:
        """Shares a namespace with the host."""
        self.linux["namespaces"] = [item for item in self.linux["namespaces"] if item["type"] != kind]
        return self

    def with_namespace(self, kind: str, path: str = "") -> BundleBuilder:
        """A namespace more, new or joined."""
        self.without_namespace(kind)
        self.linux["namespaces"].append({"type": kind, **({"path": path} if path else {})})
        return self

    def with_userns(self, host_id: int = 100000, size: int = 65536) -> BundleBuilder:
        """A user namespace, and a rootfs that belongs to its root."""
        self.with_namespace("user")
        for key in ("uidMappings", "gidMappings"):
            self.linux[key] = [{"containerID": 0, "hostID": host_id, "size": size}]
        for folder, _names, files in os.walk(self.rootfs):
            os.chown(folder, host_id, host_id)
            for name in files:
                os.chown(f"{folder}/{name}", host_id, host_id, follow_symlinks=False)
        folder = str(self.path)
        while folder != "/":
            os.chmod(folder, os.stat(folder).st_mode | 0o011)
            folder = os.path.dirname(folder)
        return self

    def build(self) -> Path:
        """Writes config.json; the bundle's folder."""
        (self.path / "config.json").write_text(json.dumps(self.spec))
        return self.path
