"""Small files on disk: written whole or not at all, directories made with exact modes, trees removed."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime

from pycontainerd.lib.errdefs import Unknown


def make_dir(path: str, mode: int) -> None:
    """Makes the directory, and missing parents with mode 0711, if it isn't there."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        make_dir(parent, 0o711)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    os.chmod(path, mode)  # whatever the umask


def write_atomic(path: str, data: bytes, mode: int = 0o666) -> None:
    """Replaces the file by rename; no reader ever sees half of it."""
    temporary = f"{path}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    os.rename(temporary, path)


def read_limited(path: str, limit_bytes: int = 1 << 20) -> bytes:
    """A small state file; more than the limit is an error, never a truncation."""
    with open(path, "rb") as f:
        data = f.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise Unknown(f"{path} is larger than {limit_bytes} bytes")
    return data


def sync_dir(path: str) -> None:
    """fsync(2) of a directory: renames into it are on disk afterwards."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def format_go_time(nanos: int) -> bytes:
    """RFC 3339 in UTC with as many digits as needed, as Go's time.MarshalText writes it."""
    seconds, fraction = divmod(nanos, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if fraction:
        text += f".{fraction:09d}".rstrip("0")
    return f"{text}Z".encode()


def parse_go_time(data: bytes) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time of up to nine digits; ValueError for anything else."""
    text = data.decode("ascii").strip()
    head, dot, tail = text.partition(".")
    fraction = ""
    if dot:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        fraction, tail = tail[:digits], tail[digits:]
        text = head + tail
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError(f"time without zone: {text}")
    return int(when.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")


def remove_tree(path: str) -> None:
    """Removes a tree of the daemon's own, never following links or crossing a mount; a missing one is fine.

    Runs on directory fds: a snapshot's content was made by strangers and may change names while it is removed.
    """
    parent, name = os.path.split(path)
    try:
        parent_fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _remove_at(parent_fd, name)
    finally:
        os.close(parent_fd)


def _remove_at(parent_fd: int, name: str) -> None:
    """Iterative: a hostile tree may be deeper than the interpreter's stack or the fd limit."""
    try:
        status = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=parent_fd)
        return
    device = status.st_dev
    root_fd = _open_dir(parent_fd, name)
    try:
        _empty(root_fd, device)
    finally:
        os.close(root_fd)
    os.rmdir(name, dir_fd=parent_fd)


def _empty(root_fd: int, device: int) -> None:
    """Deletes everything below: deep directories are first moved up, so the walk needs one fd at a time."""
    while True:
        subdirectories = _unlink_files(root_fd)
        if not subdirectories:
            return
        for name in subdirectories:
            fd = _open_dir(root_fd, name)
            try:
                if os.fstat(fd).st_dev != device:
                    raise OSError(18, f"{name}: is a mount point, not removed")  # EXDEV
                _hoist(fd, root_fd)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=root_fd)


def _hoist(fd: int, root_fd: int) -> None:
    """Unlinks a directory's files and moves its subdirectories into the root of the walk under free names."""
    for name in _unlink_files(fd):
        target = name if len(name) < 32 else "d"
        free, n = f".rm-{target}", 0
        while _exists(root_fd, free):
            n += 1
            free = f".rm-{n}-{target}"
        os.rename(name, free, src_dir_fd=fd, dst_dir_fd=root_fd)


def _unlink_files(fd: int) -> list[str]:
    """Unlinks what is no directory; returns the names of the directories."""
    directories: list[str] = []
    with os.scandir(fd) as entries:
        listed = list(entries)
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            directories.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=fd)
    return directories


def _open_dir(parent_fd: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=parent_fd)


def _exists(fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
