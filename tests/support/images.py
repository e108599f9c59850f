"""Small real images, built here from Debian's static busybox, and a real docker-registry that serves them.

`build_layout` writes an OCI image layout (an index with linux/amd64 and linux/arm64); skopeo pushes it, so what the
registry holds was checked by somebody else's program.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import signal
import socket
import subprocess
import tarfile  # noqa: TID251 - writes test layers; nothing is extracted
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.programs import PEERS, free_port, peer, peer_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLETS = [
    "sh",
    "ash",
    "cat",
    "echo",
    "ls",
    "ps",
    "sleep",
    "true",
    "false",
    "id",
    "env",
    "mount",
    "umount",
    "grep",
    "head",
    "hostname",
    "kill",
    "stat",
    "stty",
    "sed",
    "tail",
    "wc",
    "mkdir",
    "mknod",
    "rm",
    "touch",
    "tr",
    "printf",
    "seq",
    "trap",
    "test",
    "date",
    "dd",
    "df",
    "ip",
    "nc",
    "timeout",
    "pwd",
    "who",
    "tty",
]
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nweb:x:1000:1000::/home/web:/bin/sh\n"
GROUP = "root:x:0:\nwww:x:33:\nextra:x:44:web\nweb:x:1000:\nnobody:x:65534:\n"

# name, kind, content or link target, mode, and where it isn't root the owner's uid and gid
Entry = tuple[str, str, Any, int] | tuple[str, str, Any, int, int, int]


def layer(entries: list[Entry], compression: str = "gzip") -> tuple[bytes, str]:
    """A layer, compressed with gzip or zstd, and its diff id; the same entries always give the same bytes."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, content, mode, *owner in entries:
            member = tarfile.TarInfo(name)
            member.mode = mode
            member.mtime = 1_600_000_000
            member.uid, member.gid = owner or (0, 0)
            member.type = {"dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "file": tarfile.REGTYPE}[kind]
            data = content if kind == "file" else b""
            member.linkname = content if kind == "link" else ""
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    diff_id = "sha256:" + hashlib.sha256(raw.getvalue()).hexdigest()
    return _compressed(raw.getvalue(), compression), diff_id


def _compressed(data: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, 1, mtime=0)
    from backports import zstd

    packed: bytes = zstd.compress(data, 1)
    return packed


def busybox_entries() -> list[Entry]:
    """/bin with busybox and its applets, /etc with users, and the usual empty directories."""
    entries: list[Entry] = [
        (name, "dir", None, 0o755) for name in ("bin", "etc", "proc", "sys", "dev", "root", "home")
    ]
    entries.append(("tmp", "dir", None, 0o1777))
    entries.append(("bin/busybox", "file", Path(peer("busybox")).read_bytes(), 0o755))
    entries += [(f"bin/{applet}", "link", "busybox", 0o777) for applet in APPLETS]
    entries.append(("etc/passwd", "file", PASSWD.encode(), 0o644))
    entries.append(("etc/group", "file", GROUP.encode(), 0o644))
    return entries


def top_entries() -> list[Entry]:
    """A second layer: one new file and one whiteout."""
    return [
        ("etc", "dir", None, 0o755),
        ("etc/motd", "file", b"hello\n", 0o644),
        ("home", "dir", None, 0o755),
    ]


def build_layout(
    folder: Path,
    config: dict[str, Any] | None = None,
    *,
    tag: str = "latest",
    contents: list[list[Entry]] | None = None,
    compression: str = "gzip",
) -> Path:
    """Writes an OCI layout of busybox, or of the given layers; returns its folder."""
    layers = [layer(entries, compression) for entries in contents or [busybox_entries(), top_entries()]]
    return _layout(folder, layers, config or {}, tag, compression)


def _layout(
    folder: Path,
    layers: list[tuple[bytes, str]],
    config: dict[str, Any],
    tag: str,
    compression: str = "gzip",
) -> Path:
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    media_type = f"application/vnd.oci.image.layer.v1.tar+{compression}"
    described = [(_blob(blobs, data, media_type), diff_id) for data, diff_id in layers]
    manifests = [_image(blobs, described, config, architecture) for architecture in ("amd64", "arm64")]
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    }
    top = _blob(blobs, json.dumps(index).encode(), "application/vnd.oci.image.index.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    return folder


def debian_layout(folder: Path) -> Path:
    """An OCI layout of the Debian root file system that scripts/peers unpacks, in one layer; skips where there is none."""
    root = PEERS.parent / "debian"
    if not root.is_dir():
        pytest.skip("needs a Debian root file system (scripts/peers all)")
    argv = ["tar", "-C", str(root), "--sort=name", "--numeric-owner", "-cf", "-", "."]
    raw = subprocess.run(argv, capture_output=True, check=True).stdout
    made = (gzip.compress(raw, 1, mtime=0), "sha256:" + hashlib.sha256(raw).hexdigest())
    return _layout(folder, [made], {"Cmd": ["/bin/bash"]}, "latest")


def _image(
    blobs: Path, layers: list[tuple[dict[str, Any], str]], config: dict[str, Any], architecture: str
) -> dict[str, Any]:
    document = {
        "created": "2024-01-02T03:04:05Z",
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["/bin/sh"], **config},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
        "history": [{"created_by": "test"} for _ in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(blobs, json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor for descriptor, _ in layers],
    }
    entry = _blob(blobs, json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    return {**entry, "platform": {"architecture": architecture, "os": "linux"}}


def _blob(blobs: Path, data: bytes, media_type: str) -> dict[str, Any]:
    hexdigest = hashlib.sha256(data).hexdigest()
    (blobs / hexdigest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{hexdigest}", "size": len(data)}


@contextlib.contextmanager
def registry(folder: Path, *, auth: str = "", port: int = 0) -> Iterator[str]:
    """A docker-registry on loopback with its storage in `folder`; yields host:port."""
    port = port or free_port()
    config = f"""
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
http: {{addr: 127.0.0.1:{port}, secret: x}}
{auth}
"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yml").write_text(config)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [peer("docker-registry"), "serve", folder / "config.yml"], stdout=log, stderr=log
        )
    try:
        wait_for_port(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def wait_for_port(port: int, timeout_s: float = 10) -> None:
    """Returns once something listens on the loopback port."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on 127.0.0.1:{port}")


@contextlib.contextmanager
def private_registry(folder: Path) -> Iterator[str]:
    """A registry that only knows the user `me` with the password `secret`; yields host:port."""
    folder.mkdir(parents=True, exist_ok=True)
    # bcrypt of secret, cost 5
    (folder / "htpasswd").write_text("me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n")
    auth = f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}"
    with registry(folder, auth=auth) as host:
        yield host


def push(layout: Path, target: str, *, credentials: str = "") -> None:
    """skopeo copies every platform of a layout (`path:tag`) to `host:port/name:tag`."""
    extra = ["--dest-creds", credentials] if credentials else []
    subprocess.run(
        [peer("skopeo"), "--insecure-policy", "copy", "-q", "--all", "--dest-tls-verify=false", *extra,
         f"oci:{layout}:latest", f"docker://{target}"],
        env=peer_environment(), check=True, capture_output=True,
    )  # fmt: skip
