"""The transformers that make things: `mkdir` folders, `mkfs` file system images, inside the daemon's own folders only.

    X-containerd.mkdir.path=DIR[:MODE[:UID:GID]]
    X-containerd.mkfs.size=SIZE  X-containerd.mkfs.fs=ext2|ext3|ext4|xfs  X-containerd.mkfs.uuid=UUID

A path is reached from an open root, and no link leads out of that.

Spec: containerd docs/mounts.md
Man:  openat2(2), mke2fs(8), mkfs.xfs(8)
"""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented, Unknown
from pycontainerd.lib.identifiers import quoted
from pycontainerd.lib.linux import path as beneath

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontainerd.daemon.core.snapshots import Mount

_MKDIR: Final = "X-containerd.mkdir."
_MKFS: Final = "X-containerd.mkfs."
_NUMBER: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_MODE: Final = re.compile(r"[0-7]{1,11}", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}))? ?([kKmMgGtTpP])?[iI]?[bB]?", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_EXT: Final = ("ext2", "ext3", "ext4")
_MAX_SIZE: Final = 1 << 50


def make_dirs(mount: Mount, roots: Sequence[str]) -> Mount:
    """Makes the folders that its options name; the mount without these options."""
    kept = []
    for option in mount.options:
        if option.startswith(_MKDIR):
            _make_dir(_parse_mkdir(option), roots)
        else:
            kept.append(option)
    return replace(mount, options=tuple(kept))


class _Wanted(NamedTuple):
    """A folder to be there; -1 for an owner keeps the daemon's."""

    path: str
    mode: int = 0o700
    uid: int = -1
    gid: int = -1


def _parse_mkdir(option: str) -> _Wanted:
    key, equals, value = option.removeprefix(_MKDIR).partition("=")
    parts = value.split(":", 3)
    if key != "path" or not equals or len(parts) == 3:
        raise InvalidArgument(f"invalid mkdir option {quoted(option)}: invalid argument")
    if len(parts) == 1:
        return _Wanted(parts[0])
    if len(parts) == 4:
        for what, text in (("gid", parts[3]), ("uid", parts[2])):
            if not _NUMBER.fullmatch(text) or int(text) >= 1 << 32:
                raise InvalidArgument(f"invalid {what} {quoted(text)}: invalid argument")
    if not _MODE.fullmatch(parts[1]):
        raise Unknown(
            f"invalid mode {parts[1]}: strconv.ParseUint: parsing {quoted(parts[1])}: invalid syntax"
        )
    mode = int(parts[1], 8)
    if mode & ~0o777:
        raise Unknown(f"invalid mode {mode:o}")
    owner = (int(parts[2]), int(parts[3])) if len(parts) == 4 else (-1, -1)
    return _Wanted(parts[0], mode, *owner)


def _make_dir(wanted: _Wanted, roots: Sequence[str]) -> None:
    with _rooted(wanted.path, roots, "mkdir") as (root_fd, below):
        found = _stat(root_fd, below, wanted.path)
        if found is not None:
            if stat.S_IMODE(found.st_mode) & 0o777 != wanted.mode:
                raise Unimplemented("chmod not supported yet for mkdir handler: not implemented")
            return
        parent, _, name = below.rpartition("/")
        try:
            parent_fd = _open(root_fd, parent, beneath.O_PATH | os.O_DIRECTORY)
            try:
                os.mkdir(name, wanted.mode, dir_fd=parent_fd)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(name, flags, dir_fd=parent_fd)
                try:
                    os.fchmod(fd, wanted.mode)  # whatever the umask
                    os.fchown(fd, wanted.uid, wanted.gid)
                finally:
                    os.close(fd)
            finally:
                os.close(parent_fd)
        except OSError as e:
            raise Unknown(f"failed to create directory {quoted(wanted.path)}: {_reason(e)}") from e


@dataclass(slots=True)
class _Image:
    """A file system image to be there."""

    size_bytes: int = 0
    fs: str = "ext4"
    uuid: str = ""


def make_file_system(mount: Mount, roots: Sequence[str]) -> Mount:
    """Makes the image that is its source, unless it is there; the mount without the options for that."""
    with _rooted(mount.source, roots, "mkfs") as (root_fd, below):
        image = _Image()
        kept = []
        for option in mount.options:
            if option.startswith(_MKFS):
                _set_option(image, option)
            else:
                kept.append(option)
        if not image.size_bytes:
            raise InvalidArgument("mkfs requires mkfs.size option: invalid argument")
        if _stat(root_fd, below, mount.source) is None:
            _make_image(root_fd, below, image, mount.source)
    return replace(mount, options=tuple(kept))


def _set_option(image: _Image, option: str) -> None:
    key, equals, value = option.removeprefix(_MKFS).partition("=")
    match key if equals else "":
        case "size":
            image.size_bytes = _parse_size(value)
        case "fs":
            if value not in (*_EXT, "xfs"):
                raise InvalidArgument(f"unsupported filesystem {quoted(value)}: invalid argument")
            image.fs = value
        case "uuid":
            if not _UUID.fullmatch(value):
                raise InvalidArgument(f"invalid uuid {quoted(value)}: invalid argument")
            image.uuid = value
        case _:
            raise InvalidArgument(f"unknown mount option {key if equals else option}: invalid argument")


def _parse_size(text: str) -> int:
    """Bytes, as go-units' RAMInBytes reads them."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise Unknown(f"bad option size: invalid size: '{text}'")
    scale = 1 << 10 * ("kmgtp".index(found[3].lower()) + 1 if found[3] else 0)
    fraction = found[2] or ""
    size = int(found[1] + fraction) * scale // int("1" + "0" * len(fraction))
    if size > _MAX_SIZE:
        raise InvalidArgument(f"mkfs.size {text} is more than {_MAX_SIZE} bytes: invalid argument")
    return size


def _make_image(root_fd: int, below: str, image: _Image, shown: str) -> None:
    """All or nothing: an image that wasn't made whole would be mounted by the next activation."""
    parent, _, name = below.rpartition("/")
    with ExitStack() as stack:
        try:
            parent_fd = _open(root_fd, parent, beneath.O_PATH | os.O_DIRECTORY)
            stack.callback(os.close, parent_fd)
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640, dir_fd=parent_fd)
            stack.callback(os.close, fd)
        except OSError as e:
            raise Unknown(f"failed to create file {quoted(shown)}: {_reason(e)}") from e
        try:
            _write_image(fd, image, shown)
        except BaseException:
            os.unlink(name, dir_fd=parent_fd)
            raise


def _write_image(fd: int, image: _Image, shown: str) -> None:
    try:
        os.ftruncate(fd, image.size_bytes)
    except OSError as e:
        raise Unknown(f"failed to truncate file {quoted(shown)}: {_reason(e)}") from e
    program = f"mkfs.{image.fs}"
    id_words = [] if not image.uuid else ["-U", image.uuid]
    if image.fs == "xfs" and image.uuid:
        id_words = ["-m", f"uuid={image.uuid}"]
    try:
        done = subprocess.run(
            [program, "-q", *id_words, f"/proc/self/fd/{fd}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[fd],
            check=False,
        )
    except OSError as e:
        raise Unknown(
            f"failed format {quoted(shown)}: {program} failed: {_reason(e)}",
            hint=f"install {program} where the daemon's PATH finds it",
        ) from e
    if done.returncode:
        output = done.stdout.decode(errors="replace").strip()
        raise Unknown(
            f"failed format {quoted(shown)}: {program} failed: {output}: exit status {done.returncode}"
        )


@contextmanager
def _rooted(path: str, roots: Sequence[str], transformer: str) -> Iterator[tuple[int, str]]:
    """The innermost of the roots that a path is in, open, and the rest of the path; Unimplemented outside of all."""
    inside = [root for root in roots if path == root or path.startswith(root + "/")]
    if not inside:
        raise Unimplemented(f"no root {quoted(path)} configured for {transformer}: not implemented")
    root = max(inside, key=len)
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield root_fd, path[len(root) :].strip("/")
    finally:
        os.close(root_fd)


def _open(root_fd: int, below: str, flags: int) -> int:
    resolve = beneath.RESOLVE_BENEATH | beneath.RESOLVE_NO_MAGICLINKS
    return beneath.openat2(root_fd, below or ".", flags, resolve=resolve)


def _stat(root_fd: int, below: str, shown: str) -> os.stat_result | None:
    """What is at a path; None for nothing, Unknown for a path that leads out of its root."""
    try:
        fd = _open(root_fd, below, beneath.O_PATH)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise Unknown(f"failed to stat {quoted(shown)}: {_reason(e)}") from e
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _reason(error: OSError) -> str:
    if error.errno == errno.EXDEV:
        return "path escapes from parent"
    return os.strerror(error.errno or 0).lower()
