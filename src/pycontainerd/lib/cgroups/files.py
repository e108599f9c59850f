"""Reading and writing cgroupfs, and removing its folders.

Man:  cgroups(7)
"""

from __future__ import annotations

import errno
import os
import time

from pycontainerd.lib.cgroups.hierarchy import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DESTROY_TIMEOUT_S = 1.0


def write(folder: str, name: str, value: str | int) -> None:
    """One value into one file, one write(2); OSError carries the file's path."""
    path = f"{folder}/{name}"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


def write_limit(folder: str, name: str, value: str) -> None:
    """One limit into its file; InvalidArgument in runc's words, with the OSError as its cause, where the kernel refuses it."""
    from pycontainerd.lib.errdefs import InvalidArgument

    try:
        write(folder, name, value)
    except OSError as error:
        reason = (error.strerror or "").lower()
        path = f"{folder}/{name}"
        if error.errno == errno.ENOENT:
            raise InvalidArgument(f"openat2 {path}: {reason}") from error
        raise InvalidArgument(f'failed to write "{value}": write {path}: {reason}') from error


def write_all(folder: str, name: str, values: Iterable[str]) -> None:
    """Several values into one file, a write(2) each, one open."""
    fd = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        for value in values:
            os.write(fd, value.encode())
    finally:
        os.close(fd)


def read(folder: str, name: str, default: str | None = None) -> str:
    """A file's text without the final newline; `default` when the file isn't there (None: FileNotFoundError)."""
    try:
        return read_text(f"{folder}/{name}").rstrip("\n")
    except OSError as error:
        if default is not None and error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return default
        raise


def read_number(folder: str, name: str, default: int = 0) -> int:
    """A file's number; `max` is 2^64-1; `default` when the file isn't there."""
    text = read(folder, name, "")
    if not text:
        return default
    return (1 << 64) - 1 if text == "max" else int(text)


def read_table(folder: str, name: str) -> dict[str, int]:
    """A file of `key number` lines; empty when the file isn't there."""
    found = {}
    for line in read(folder, name, "").splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            found[key] = int(value)
    return found


def walk(folder: str) -> Iterator[str]:
    """The folder's sub-cgroups, deepest first, and itself last; what is gone meanwhile is left out."""
    try:
        with os.scandir(folder) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return
        raise
    for path in below:
        yield from walk(path)
    yield folder


def pids(folder: str, *, recursive: bool) -> list[int]:
    """Processes of a cgroup; none when it is gone."""
    found: list[int] = []
    for path in walk(folder) if recursive else (folder,):
        found += [int(word) for word in read(path, "cgroup.procs", "").split()]
    return found


def remove(folders: Iterable[str], timeout_s: float = DESTROY_TIMEOUT_S) -> None:
    """Removes cgroups with what is below them, retrying while processes in them die; OSError EBUSY if they don't."""
    deadline = time.monotonic() + timeout_s
    left = [folder for folder in dict.fromkeys(folders) if not _remove_once(folder)]
    pause_s = 0.0005
    while left:
        if time.monotonic() > deadline:
            raise OSError(errno.EBUSY, "unable to remove cgroup: device or resource busy", left[0])
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)
        left = [folder for folder in left if not _remove_once(folder)]


def _remove_once(folder: str) -> bool:
    try:
        os.rmdir(folder)
        return True
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return True
        if error.errno != errno.EBUSY:
            raise
    for path in walk(folder):
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
    return True
