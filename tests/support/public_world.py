"""A machine of its own where docker.io is a TLS registry on loopback: run as `unshare -m -n python -m support.public_world WORK`.

Makes a CA and a certificate, answers for docker.io's hosts through /etc/hosts, trusts the CA through the system's bundle,
serves a real docker-registry on 127.0.0.1:443, and prints what pulling and running by public names gave, as JSON.
Everything is mounted in this process's own namespaces, and gone with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

from support import images
from support.programs import peer, peer_environment
from support.stack import Stack

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
HOSTS = ("registry-1.docker.io", "auth.docker.io", "index.docker.io")
_SIOCSIFFLAGS = 0x8914


def loopback_up() -> None:
    """`ip link set lo up`, without ip. Man: netdevice(7)"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", 1))


def make_certificates(work: Path) -> None:
    """ca.pem, and server.pem with its key for every host."""

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=work, check=True, capture_output=True)

    names = ",".join(f"DNS:{host}" for host in HOSTS)
    (work / "ext").write_text(f"subjectAltName={names}\n")
    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(
        *new,
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=test CA",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    )
    openssl(*new, "-subj", "/CN=registry", "-keyout", "server.key", "-out", "server.csr")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "ext", "-out", "server.pem",
    )  # fmt: skip


def mount_over(work: Path, name: str, target: Path, text: str) -> None:
    """Binds a file of ours over one of the system's; where there is none, a copy of its folder that has one first."""
    if not target.exists():
        folder = next(parent for parent in target.parents if parent.is_dir())
        copied = work / f"{name}.folder"
        subprocess.run(["cp", "-a", folder, copied], check=True)
        place = copied / target.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        subprocess.run(["mount", "--bind", copied, folder], check=True)
    (work / name).write_text(text)
    subprocess.run(["mount", "--bind", work / name, target], check=True)


def serve(work: Path) -> subprocess.Popen[bytes]:
    """The registry with TLS on port 443."""
    config = work / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {work}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:443', tls: {{certificate: {work}/server.pem, key: {work}/server.key}}}}\n"
    )
    with (work / "registry.log").open("wb") as log:
        process = subprocess.Popen([peer("docker-registry"), "serve", config], stdout=log, stderr=log)
    images.wait_for_port(443)
    return process


def scratch_layout(folder: Path) -> Path:
    """hello-world's kind of image: one static binary, no shell, no /etc."""
    data = Path(peer("busybox")).read_bytes()
    config = {"Env": ["PATH=/"], "Cmd": ["/busybox", "echo", "Hello from Docker!"]}
    return images.build_layout(folder, config, contents=[[("busybox", "file", data, 0o755)]])


def main() -> int:
    """Prints one JSON object: daemon -> client -> results."""
    work = Path(sys.argv[1])
    loopback_up()
    make_certificates(work)
    mount_over(work, "hosts", Path("/etc/hosts"), "127.0.0.1 localhost " + " ".join(HOSTS) + "\n")
    mount_over(work, "bundle", BUNDLE, (work / "ca.pem").read_text())
    registry = serve(work)
    try:
        results = everything(work)
    finally:
        registry.terminate()
        registry.wait()
    sys.stdout.write(json.dumps(results))
    return 0


def everything(work: Path) -> dict[str, dict[str, object]]:
    """Fills the registry, then every client on every daemon."""
    for name, layout in (
        ("hello-world", scratch_layout(work / "hello")),
        ("busybox", images.build_layout(work / "busybox")),
    ):
        images.push(layout, f"registry-1.docker.io/library/{name}:latest")
    results: dict[str, dict[str, object]] = {}
    for kind in ("ours", "real"):
        stack = Stack(work / kind[0], kind=kind, env={"SSL_CERT_FILE": str(BUNDLE)}).start()
        try:
            results[kind] = {client: use(stack, client) for client in ("pyctr", "ctr")}
        finally:
            stack.clean()
    return results


def use(stack: Stack, client: str) -> dict[str, object]:
    """Pull, ls and run by public name."""
    hello, busybox = "docker.io/library/hello-world:latest", "docker.io/library/busybox:latest"
    pulled = stack.run(client, "image", "pull", hello).stdout
    stack.run(client, "image", "pull", busybox)
    ran = stack.run(client, "run", "--rm", hello, "hello")
    shell = stack.run(client, "run", "--rm", busybox, "shell", "sh", "-c", "exit 42", check=False)
    names = stack.run(client, "image", "ls", "-q").stdout.split()
    stack.run(client, "image", "rm", "--sync", hello, busybox)
    return {
        "resolved": f"{hello}:" in pulled and "resolved" in pulled,
        "hello": ran.stdout,
        "status": shell.returncode,
        "names": sorted(names),
        "content left": stack.run(client, "content", "ls", "-q").stdout,
    }


if __name__ == "__main__":
    os.environ.update(peer_environment())
    sys.exit(main())
