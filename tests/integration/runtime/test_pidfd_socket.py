"""--pidfd-socket of create, run and exec; as runc 1.2 and later, whose receiver kills by what it was sent.

Man: pidfd_send_signal(2), unix(7)
"""

from __future__ import annotations

import os
import signal
import socket

import pytest

from support.runtime import ours_only

pytestmark = ours_only("--pidfd-socket")


@pytest.fixture
def receiver(short_tmp):
    """A listening socket, and what gives the next message with its pidfd."""
    path = short_tmp / "pidfd"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        opened = []

        def receive():
            peer, _ = listener.accept()
            with peer:
                data, fds, _flags, _address = socket.recv_fds(peer, 100, 2)
            opened.extend(fds)
            assert len(fds) == 1
            return data, fds[0]

        yield path, receive
        for fd in opened:
            os.close(fd)


def test_create(runtime, bundle, receiver):
    path, receive = receiver
    runtime.create(bundle.args("sleep", "100").build(), "c", "--pidfd-socket", str(path))
    kind, pidfd = receive()
    assert kind == b"standard"
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    runtime.wait_status("stopped")


def test_run(runtime, bundle, receiver):
    path, receive = receiver
    runtime.start_detached(bundle.args("sleep", "100").build(), "c", "--pidfd-socket", str(path))
    kind, pidfd = receive()
    assert kind == b"standard"
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    runtime.wait_status("stopped")


def test_exec(runtime, bundle, receiver, tmp_path):
    path, receive = receiver
    runtime.start_detached(bundle.args("sleep", "100").build())
    pid_file = tmp_path / "pid"
    runtime.detached(
        "exec", "-d", "--pid-file", str(pid_file), "--pidfd-socket", str(path), "c", "sleep", "100"
    )
    kind, pidfd = receive()
    assert kind == b"setns"
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        assert f"Pid:\t{pid_file.read_text()}\n" in file.read()
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert runtime.state()["status"] == "running"


def test_nobody_listens(runtime, bundle, short_tmp):
    done = runtime("run", "--bundle", str(bundle.build()), "--pidfd-socket", str(short_tmp / "none"), "c")
    assert done.code == 1
    assert "connect: no such file or directory" in done.err
    assert not (runtime.root / "c").exists()
