"""Terminals: console sockets and the foreground."""

from __future__ import annotations

import array
import os
import pty
import select
import socket
import subprocess

import pytest


class ConsoleSocket:
    """Listens where the runtime sends the master."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.listener.settimeout(10)

    def receive(self) -> int:
        connection, _ = self.listener.accept()
        with connection:
            fds = array.array("i", [0])
            _data, ancillary, _flags, _address = connection.recvmsg(4096, socket.CMSG_LEN(fds.itemsize))
            fds.frombytes(ancillary[0][2][: fds.itemsize])
        return fds[1]


def read_until(fd: int, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        assert select.select([fd], [], [], 10)[0], data
        try:
            data += os.read(fd, 4096)
        except OSError:
            break
    return data


@pytest.fixture
def console(short_tmp):
    made = ConsoleSocket(short_tmp / "c.sock")
    yield made
    made.listener.close()


def test_create_sends_the_master_to_the_console_socket(runtime, bundle, console):
    bundle.process.update(terminal=True, consoleSize={"height": 10, "width": 110})
    path = bundle.sh("tty; stty size; ls -l /dev/console; read x; echo got $x; sleep 100").build()
    runtime.create(path, "c", "--console-socket", str(console.path))
    master = console.receive()
    runtime.ok("start", "c")
    text = read_until(master, b"/dev/console")
    assert b"/dev/pts/0" in text
    assert b"10 110" in text
    os.write(master, b"word\n")
    assert b"got word" in read_until(master, b"got word")
    os.close(master)


def test_terminal_without_console_socket_fails(runtime, bundle):
    bundle.process["terminal"] = True
    done = runtime("create", "--bundle", str(bundle.build()), "c")
    assert done.code == 1
    assert "cannot allocate tty if runc will detach without setting console socket" in done.err


def test_console_socket_without_terminal_fails(runtime, bundle, console):
    done = runtime("create", "--bundle", str(bundle.build()), "--console-socket", str(console.path), "c")
    assert done.code == 1
    assert "cannot use console socket if runc will not detach or allocate tty" in done.err


def test_exec_sends_its_master(runtime, bundle, console):
    runtime.start_detached(bundle.args("sleep", "100").build())
    runtime.detached(
        "exec", "--detach", "--tty", "--console-socket", str(console.path), "c", "sh", "-c", "tty; sleep 1"
    )
    master = console.receive()
    assert b"/dev/pts/" in read_until(master, b"\n")
    os.close(master)


def test_the_terminal_belongs_to_the_user(runtime, bundle, console):
    bundle.process.update(terminal=True, user={"uid": 1000, "gid": 1000})
    runtime.create(
        bundle.sh("stat -c %u:%G $(tty) || stat -c %u $(tty); sleep 100").build(),
        "c",
        "--console-socket",
        str(console.path),
    )
    master = console.receive()
    runtime.ok("start", "c")
    assert b"1000" in read_until(master, b"\n")
    os.close(master)


def _run_on_terminal(argv: list[str]) -> tuple[int, bytes]:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    text = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:
            break
        if not data:
            break
        text += data
    os.close(ours)
    return running.wait(10), text


def test_run_relays_a_terminal(runtime, bundle):
    bundle.process["terminal"] = True
    code, text = _run_on_terminal(runtime.argv("run", "--bundle", str(bundle.sh("tty; exit 6").build()), "c"))
    assert code == 6, text
    assert b"/dev/pts/0" in text


def test_exec_relays_a_terminal(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    code, text = _run_on_terminal(runtime.argv("exec", "--tty", "c", "sh", "-c", "tty; exit 4"))
    assert code == 4
    assert b"/dev/pts/0" in text


def test_without_terminal_the_container_does_not_get_the_hosts(runtime, bundle):
    code, text = _run_on_terminal(runtime.argv("run", "--bundle", str(bundle.sh("tty; exit 3").build()), "c"))
    assert code == 3, text
    assert b"not a tty" in text


def test_run_without_a_terminal_to_relay_fails(runtime, bundle):
    bundle.process["terminal"] = True
    done = runtime.run(bundle.build(), start_new_session=True)
    assert done.code == 1
    assert "open /dev/tty: no such device or address" in done.err
