"""Users of an image, read from its own files by descriptor: no NSS, no host names.

Spec:    passwd(5)
Runs in: parent or init, before pivot_root
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import path as fspath

MAX_BYTES = 10 << 20
MAX_ID = 0xFFFFFFFE


def _lines(root_fd: int, path: bytes) -> list[bytes]:
    try:
        fd = fspath.open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return []  # an image needs no such file
    try:
        if os.fstat(fd).st_mode & 0o170000 != 0o100000:
            return []
        chunks, total = [], 0
        while total <= MAX_BYTES and (chunk := os.read(fd, 65536)):
            chunks.append(chunk)
            total += len(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks)[:MAX_BYTES].split(b"\n")


def parse_id(text: bytes) -> int:
    """A decimal id, ASCII digits only; -1 when it isn't one or out of range."""
    if not text or len(text) > 10 or text.strip(b"0123456789"):
        return -1
    number = int(text)
    return number if number <= MAX_ID else -1


def find_home(root_fd: int, uid: int) -> str:
    """The home directory of a uid in the image's /etc/passwd, else `/`."""
    for line in _lines(root_fd, b"etc/passwd"):
        fields = line.split(b":")
        if len(fields) >= 6 and parse_id(fields[2]) == uid:
            return os.fsdecode(fields[5]) or "/"
    return "/"
