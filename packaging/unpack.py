"""The first run of a program in one file: unpacks the archive it is in, checked, and execs the launcher in there.

    <cache>/                 its owner's, and nobody else's to write
        <digest>/bin, lib    complete once it has this name
        .part-<digest>       while the lock on <cache> is held

It is `__main__` of the archive, run by the text in front of it (packaging/program.sh) when <cache>/<digest> isn't there.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import sys
import zipfile

EPOCH = 1577836800  # the time of every file, to which the compiled ones beside them refer


def main() -> None:
    """Doesn't return."""
    me, cache, build, size, python, machine, program, name, *arguments = sys.argv
    here = f"{sys.version_info[0]}.{sys.version_info[1]}", os.uname().machine
    if here != (python, machine):
        sys.exit(
            f"{name}: built for Python {python} on {machine}, this is Python {here[0]} on {here[1]}: "
            "build it here, by `make`"
        )
    top = f"{cache}/{build}"
    try:
        unpack(me, cache, build, int(size))
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        sys.exit(
            f"{name}: could not unpack itself into {cache}: {e}; "
            "PYCONTAINERD_PROGRAMS names another folder, which must be writable for nobody else"
        )
    os.execv(sys.executable, [sys.executable, "-IS", f"{top}/bin/{program}", name, *arguments])


def unpack(me: str, cache: str, build: str, size: int) -> None:
    """Makes <cache>/<build> whole, if it isn't there. ValueError says what is wrong with the file or the folder."""
    lock_fd = open_cache(cache)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX)
        if os.path.isdir(f"{cache}/{build}"):
            require_own(os.lstat(f"{cache}/{build}"), f"{cache}/{build}")
            return
        archive = read_archive(me, build, size)
        part = f"{cache}/.part-{build}"
        if os.path.isdir(part):  # of a run that was killed: whoever works on it has the lock
            shutil.rmtree(part)
        os.mkdir(part, 0o700)
        write_files(archive, part)
        os.chmod(part, 0o755)
        os.rename(part, f"{cache}/{build}")
    finally:
        os.close(lock_fd)


def open_cache(path: str) -> int:
    """The cache folder, made where it isn't there."""
    before = os.umask(0o022)
    try:
        os.makedirs(path, 0o755, exist_ok=True)
    finally:
        os.umask(before)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        require_own(os.fstat(fd), path)
    except ValueError:
        os.close(fd)
        raise
    return fd


def require_own(found: os.stat_result, path: str) -> None:
    """What others may write, or have made, is not run."""
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ValueError(f"{path} belongs to user {found.st_uid} with mode {found.st_mode & 0o7777:o}")


def read_archive(me: str, build: str, size: int) -> zipfile.ZipFile:
    """The last `size` bytes of the file, whose digest must be `build`."""
    with open(me, "rb") as file:
        file.seek(-size, os.SEEK_END)
        data = file.read(size)
    if hashlib.sha256(data).hexdigest() != build:
        raise ValueError(f"{me} is damaged: its archive hasn't the digest {build}")
    return zipfile.ZipFile(io.BytesIO(data))


def write_files(archive: zipfile.ZipFile, folder: str) -> None:
    """Everything of the archive but this file, new, with its mode and time."""
    for entry in archive.infolist():
        parts = entry.filename.split("/")
        if entry.filename == "__main__.py":
            continue
        if not all(part not in ("", ".", "..") for part in parts):
            raise ValueError(f"name {entry.filename!r} in the archive")
        path = f"{folder}/{entry.filename}"
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(archive.read(entry))
            os.fchmod(fd, 0o755 if parts[0] == "bin" else 0o644)
        os.utime(path, (EPOCH, EPOCH))


if __name__ == "__main__":
    main()
