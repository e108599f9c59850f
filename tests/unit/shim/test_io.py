"""stdio addresses and pumps."""

import os

import pytest

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.shim.io import Pump, split_uri
from pycontainerd.shim.loop import Loop


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/run/fifo/1-stdout", ("fifo", "/run/fifo/1-stdout", [])),
        ("", ("fifo", "", [])),
        ("file:///var/log/a%20b", ("file", "/var/log/a b", [])),
        (
            "binary:///bin/log?id=1&flag&n=a+b",
            ("binary", "/bin/log", [("id", "1"), ("flag", ""), ("n", "a b")]),
        ),
    ],
)
def test_addresses(text: str, expected: tuple) -> None:
    assert split_uri(text) == expected


def test_broken_escape_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="invalid URL escape"):
        split_uri("file:///a%zz")


class Pipes:
    """source -> pump -> target, on a loop of its own."""

    def __init__(self) -> None:
        self.loop = Loop()
        source_fd, self.write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.read_fd, target_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.pump = Pump(self.loop, source_fd, target_fd, close=(source_fd, target_fd))
        self.pump.start()

    def turn(self, seconds: float = 0.02) -> None:
        self.loop.later(seconds, self.loop.stop)
        self.loop.run()

    def close(self) -> None:
        self.pump.stop()
        self.loop.close()
        for fd in (self.read_fd, self.write_fd):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def pipes():
    made = Pipes()
    yield made
    made.close()


def test_pump_ends_with_its_source(pipes: Pipes) -> None:
    os.write(pipes.write_fd, b"last words")
    os.close(pipes.write_fd)
    pipes.write_fd = -1
    pipes.turn()
    assert pipes.pump.done.done
    assert os.read(pipes.read_fd, 100) == b"last words"
    assert os.read(pipes.read_fd, 100) == b""


def test_full_target_makes_the_source_wait_and_nothing_is_lost(pipes: Pipes) -> None:
    sent = received = 0
    for _ in range(20):
        try:
            while True:
                sent += os.write(pipes.write_fd, bytes(4096))
        except BlockingIOError:
            pipes.turn()
    assert sent < 1 << 20  # both pipes and one chunk, then the writer waits
    while received < sent:
        try:
            received += len(os.read(pipes.read_fd, 1 << 16))
        except BlockingIOError:
            pipes.turn()
    assert received == sent


def test_broken_target_ends_the_pump(pipes: Pipes) -> None:
    os.close(pipes.read_fd)
    pipes.read_fd = -1
    os.write(pipes.write_fd, b"to nobody")
    pipes.turn()
    assert pipes.pump.done.done


def test_pump_that_never_started_writes_nothing() -> None:
    loop = Loop()
    (source_fd, write_fd), (read_fd, target_fd) = os.pipe2(os.O_NONBLOCK), os.pipe2(os.O_NONBLOCK)
    os.write(write_fd, b"a runtime's complaint")
    Pump(loop, source_fd, target_fd, close=(source_fd, target_fd)).stop()
    assert os.read(read_fd, 100) == b""
    loop.close()
    os.close(read_fd)
    os.close(write_fd)
