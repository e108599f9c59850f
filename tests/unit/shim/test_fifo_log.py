"""The log FIFO: never waits, counts what it drops, tells it later."""

import os

from pycontainerd.shim.fifo_log import FifoLog


def test_lines_that_do_not_fit_are_counted_and_told_when_there_is_room(tmp_path) -> None:
    os.mkfifo(tmp_path / "log")
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_NONBLOCK)
    log = FifoLog(fd, "info")
    for number in range(100):
        log.info("x" * 3000, number=number)
    assert log.dropped > 50
    dropped, first = log.dropped, os.read(fd, 1 << 20)
    assert first.count(b"\n") == 100 - dropped
    log.info("room again")
    lines = os.read(fd, 1 << 20).decode().splitlines()
    os.close(fd)
    assert lines[0].endswith(f'level=warning msg="log lines dropped" count={dropped}')
    assert lines[1].endswith('level=info msg="room again"')
    assert log.dropped == 0


def test_levels_and_long_lines(tmp_path) -> None:
    os.mkfifo(tmp_path / "log")
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_NONBLOCK)
    log = FifoLog(fd, "info")
    log.debug("unseen")
    log.error("y" * 10000)
    data = os.read(fd, 1 << 20)
    os.close(fd)
    assert len(data) == 4001
    assert data.endswith(b"...\n")
