"""What the daemon listens on besides its sockets, next to the real one: TCP with TLS, numbers, debug."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import version_v1, wkt
from support.daemons import Daemon, call, make_rootfs
from support.patience import seconds
from support.programs import free_port, peer

CONFIG = """version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{folder}/c.sock"
  GRPC
[debug]
  address = "{folder}/debug.sock"
[metrics]
  address = "127.0.0.1:METRICS"
  grpc_histogram = true
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
"""


class Started:
    """A daemon with its ports."""

    def __init__(self, folder: Path, *, real: bool, grpc_lines: str = "") -> None:
        self.metrics_port = free_port()
        config = CONFIG.replace("METRICS", str(self.metrics_port)).replace("GRPC", grpc_lines)
        self.daemon = Daemon(folder, real=real, config=config)

    def samples(self) -> dict[str, float]:
        """One scrape: `name{labels}` -> value."""
        url = f"http://127.0.0.1:{self.metrics_port}/v1/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            text = answer.read().decode()
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}


@pytest.fixture(params=["real", "ours"])
def start(request):
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    with contextlib.ExitStack() as stack:

        def starter(grpc_lines: str = "") -> Started:
            started = Started(folder / "d", real=request.param == "real", grpc_lines=grpc_lines)
            stack.enter_context(started.daemon).start()
            return started

        starter.real = request.param == "real"
        yield starter
    remove_tree(str(folder))


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """ca, server and client certificates."""
    folder = tmp_path_factory.mktemp("keys")

    def openssl(*arguments: str) -> None:
        subprocess.run([peer("openssl"), *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=ca")
    for name in ("server", "client"):
        openssl(
            *("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-copy_extensions", "copy", "-out", f"{name}.crt"),
        )
    return folder


def _version(port: int, keys: Path | None, *, with_certificate: bool) -> tuple[str, str]:
    if keys is None:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    else:
        pair = [(keys / f"client.{kind}").read_bytes() for kind in ("key", "crt")]
        given = pair if with_certificate else [None, None]
        channel = grpc.secure_channel(
            f"127.0.0.1:{port}", grpc.ssl_channel_credentials((keys / "ca.crt").read_bytes(), *given)
        )
    with channel:
        code, text, _ = call(channel, version_v1.VERSION, "Version", wkt.Empty())
        return code, text


def test_tcp_asks_for_a_certificate_of_the_configured_authority(start, keys):
    port = free_port()
    start(
        f'tcp_address = "127.0.0.1:{port}"\ntcp_tls_cert = "{keys}/server.crt"\n'
        f'tcp_tls_key = "{keys}/server.key"\ntcp_tls_ca = "{keys}/ca.crt"'
    )
    assert _version(port, keys, with_certificate=False)[0] == "UNAVAILABLE"
    code, text = _version(port, keys, with_certificate=True)
    if start.real:  # containerd serves CRI alone on TCP
        assert (code, text) == ("UNIMPLEMENTED", "unknown service containerd.services.version.v1.Version")
    else:
        assert code == "OK"


@pytest.mark.parametrize("tls", [False, True])
def test_tcp_without_client_certificates_has_no_service(start, keys, tls):
    port = free_port()
    pair = f'tcp_tls_cert = "{keys}/server.crt"\ntcp_tls_key = "{keys}/server.key"' if tls else ""
    start(f'tcp_address = "127.0.0.1:{port}"\n{pair}')
    code, text = _version(port, keys if tls else None, with_certificate=False)
    assert (code, text) == ("UNIMPLEMENTED", "unknown service containerd.services.version.v1.Version")


def test_numbers_of_calls(start):
    started = start()
    labels = 'grpc_method="Version",grpc_service="containerd.services.version.v1.Version",grpc_type="unary"'
    names = (
        f'grpc_server_handled_total{{grpc_code="OK",{labels}}}',
        f"grpc_server_started_total{{{labels}}}",
        f"grpc_server_msg_received_total{{{labels}}}",
        f"grpc_server_msg_sent_total{{{labels}}}",
        f"grpc_server_handling_seconds_count{{{labels}}}",
        f'grpc_server_handling_seconds_bucket{{{labels},le="+Inf"}}',
    )
    deadline = time.monotonic() + seconds(5)
    while not set(names) <= (before := started.samples()).keys():  # containerd answers before it has counters
        assert time.monotonic() < deadline, before
    assert [before[name] for name in names] == [0] * 6
    with started.daemon.channel() as channel:
        for _ in range(3):
            assert call(channel, version_v1.VERSION, "Version", wkt.Empty())[0] == "OK"
    after = started.samples()
    assert [after[name] for name in names] == [3] * 6
    assert any(name.startswith("containerd_build_info_total{") for name in after)
    assert after["process_resident_memory_bytes"] > 1 << 20


def test_numbers_of_containers_have_the_same_names(start, tmp_path, request):
    started = start()
    daemon = started.daemon
    cgroup = f"/pyc-numbers-{secrets.token_hex(4)}"
    done = daemon.ctr(
        *("run", "-d", "--cgroup", cgroup, "--rootfs", str(make_rootfs(tmp_path / "rootfs")), "m1"),
        *("/bin/busybox", "sleep", "100"),
    )
    assert done.returncode == 0, done.stderr
    try:
        samples = started.samples()
    finally:
        daemon.ctr("task", "rm", "-f", "m1")
        daemon.ctr("container", "rm", "m1")
    found = {name for name in samples if name.startswith("container_")}
    labels = 'container_id="m1",namespace="default",runtime="io.containerd.runc.v2"'
    assert samples[f"container_pids_current{{{labels}}}"] == 1
    memory = "container_memory_usage_usage_bytes" if _hierarchy() == 1 else "container_memory_usage_bytes"
    assert samples[f"{memory}{{{labels}}}"] > 0
    assert not any(name.startswith("container_") for name in started.samples())
    seen = request.config.stash.setdefault(SEEN, [])
    seen.append(found)
    if len(seen) == 2:
        # There are numbers of disks only once the container has been to one: what it runs may be in memory already.
        disks = [{name for name in names if name.startswith("container_blkio_")} for names in seen]
        if not all(disks):
            seen = [names - of_disks for names, of_disks in zip(seen, disks, strict=True)]
        assert seen[0] == seen[1]


SEEN: pytest.StashKey[list[set[str]]] = pytest.StashKey()


def _hierarchy() -> int:
    return 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1


def test_unknown_paths_of_numbers(start):
    started = start()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{started.metrics_port}/", timeout=10)
    with caught.value as answer:
        assert (answer.code, answer.read()) == (404, b"404 page not found\n")


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("debug")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


def _get(daemon: Daemon, target: str, method: str = "GET") -> tuple[int, str]:
    connection = _UnixConnection(f"{daemon.folder}/debug.sock")
    with contextlib.closing(connection):
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_the_debug_socket_tells_where_the_daemon_is(start):
    daemon = start().daemon
    assert (Path(f"{daemon.folder}/debug.sock").stat().st_mode & 0o777) == 0o660
    status, text = _get(daemon, "/debug/pprof/goroutine?debug=2")
    assert status == 200
    assert ("goroutine " if start.real else "thread MainThread:") in text
    status, text = _get(daemon, "/debug/pprof/cmdline")
    assert (status, text.split("\0")[-2:]) == (200, _tail(daemon, start.real))
    status, text = _get(daemon, "/debug/vars")
    assert (status, '"cmdline": [' in text) == (200, True)
    assert _get(daemon, "/nothing")[0] == 404


def test_the_debug_socket_changes_the_log_level():
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    with Started(folder / "d", real=False).daemon.start() as daemon:
        assert _get(daemon, "/debug/log-level") == (200, "info\n")
        assert _get(daemon, "/debug/log-level?level=debug", "PUT") == (200, "debug\n")
        assert _get(daemon, "/debug/log-level") == (200, "debug\n")
        assert _get(daemon, "/debug/log-level?level=loud", "PUT") == (
            400,
            'not a valid logrus Level: "loud"\n',
        )
        assert _get(daemon, "/debug/vars", "PUT")[0] == 405
        assert _get(daemon, "/debug/log-level?level=info")[1] == "debug\n", "who only looks changes nothing"
    remove_tree(str(folder))


def _tail(daemon: Daemon, real: bool) -> list[str]:
    return ["--config", f"{daemon.folder}/config.toml"] if real else ["--log-level", "info"]


def test_profiles_in_gos_format_are_refused(tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    with Started(folder / "d", real=False).daemon.start() as daemon:
        status, text = _get(daemon, "/debug/pprof/heap")
        assert (status, text) == (501, "a Go profile cannot be made here: see /debug/pprof/goroutine\n")
    remove_tree(str(folder))
