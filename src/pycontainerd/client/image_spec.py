"""From an image's config to a Spec: args, env, cwd and the user, looked up in the image's own passwd and group.

The image is mounted in a folder of ours, its root opened as an fd and the mount detached at once; every file inside is
then reached by openat2 from that fd, so that no symbolic link of the image leads to the host.

Spec: image-spec conversion.md; security: names and numbers from images are checked as CVE-2024-40635 calls for
"""

from __future__ import annotations

import os

from pycontainerd.client import spec_opts
from pycontainerd.lib import trace
from pycontainerd.lib.api.light import types
from pycontainerd.lib.errdefs import InvalidArgument, NotFound

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final

    from pycontainerd.client.spec_opts import Spec
    from pycontainerd.lib.oci.image import ImageConfig

MAX_USER_FILE: Final = 10 << 20
MAX_ID: Final = (1 << 32) - 2  # 2^32-1 means "leave it" to the kernel


def with_image_config(spec: Spec, config: ImageConfig) -> Spec:
    """Args, env and cwd of the image; variables that the Spec has already win. The user is `with_user`'s."""
    env = spec_opts.merge_env(config.env or [spec_opts.DEFAULT_PATH], spec.get("process", {}).get("env", ()))
    return spec_opts.with_process(
        spec, args=[*config.entrypoint, *config.cmd], cwd=config.working_dir or "/", env=env
    )


def with_image(spec: Spec, config: ImageConfig, read_file: Callable[[str], bytes], *, user: str = "") -> Spec:
    """Everything of the image, its user (or the one given) with the groups included."""
    spec = with_image_config(spec, config)
    user = user or config.user
    if not user:
        return with_additional_gids(spec, "root", read_file)
    spec = with_user(spec, user, read_file)
    return with_additional_gids(spec, str(spec["process"]["user"]["uid"]), read_file)


def with_user(spec: Spec, user: str, read_file: Callable[[str], bytes]) -> Spec:
    """`name`, `uid`, `name:group`, `uid:gid` ... as the process's user; NotFound for a name that the image lacks.

    `read_file` gives the bytes of a file of the image, and raises NotFound.
    """
    name, colon, group = user.partition(":")
    row = None if colon and _is_number(name) else _find(_rows(read_file, "etc/passwd", 7), name)
    if row is None and not _is_number(name):
        raise NotFound(f'no users found: "{name}" is not in the image\'s /etc/passwd')
    uid = parse_id(row[2] if row else name)
    gid = parse_id(row[3]) if row else 0
    if colon:
        gid = _group_id(group, read_file)
    return spec_opts.with_process(spec, user={**_user(spec), "uid": uid, "gid": gid, "additionalGids": [gid]})


def with_additional_gids(spec: Spec, user: str, read_file: Callable[[str], bytes]) -> Spec:
    """The groups of the image that list `user` (a name or a number), the primary one first."""
    name = user
    if _is_number(user):
        row = _find(_rows(read_file, "etc/passwd", 7), user)
        name = row[0] if row else ""
    current = _user(spec)
    groups = _rows(read_file, "etc/group", 4) if name else []
    gids = [parse_id(row[2]) for row in groups if row[0] != name and name in row[3].split(",")]
    primary = int(current["gid"])
    ordered = gids if primary in gids else [primary, *gids]
    return spec_opts.with_process(spec, user={**current, "additionalGids": ordered})


def _user(spec: Spec) -> dict[str, Any]:
    return dict(spec.get("process", {}).get("user", {"uid": 0, "gid": 0}))


def parse_id(text: str) -> int:
    """A uid or gid: ASCII digits below 2^32-1. int() would also take `1_0`, ` 0`, `+0` and other scripts' digits."""
    if not _is_number(text) or len(text) > 10 or int(text) > MAX_ID:
        raise InvalidArgument(f'id "{text[:40]}" is no number from 0 to {MAX_ID}: invalid argument')
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _group_id(group: str, read_file: Callable[[str], bytes]) -> int:
    if _is_number(group):
        return parse_id(group)
    row = next((row for row in _rows(read_file, "etc/group", 4) if row[0] == group), None)
    if row is None:
        raise NotFound(f'no groups found: "{group}" is not in the image\'s /etc/group')
    return parse_id(row[2])


def _find(rows: Sequence[Sequence[str]], name: str) -> Sequence[str] | None:
    """By name, or by number when it is one: an all-digit name is never looked up as a name (CVE-2024-40635)."""
    if _is_number(name):
        number = parse_id(name)
        return next((row for row in rows if _is_number(row[2]) and int(row[2]) == number), None)
    if not name.isprintable() or not (name[:1].isascii() and (name[:1].isalpha() or name[:1] == "_")):
        raise InvalidArgument(f'user "{name[:40]}" is neither a name nor a number: invalid argument')
    return next((row for row in rows if row[0] == name), None)


def _rows(read_file: Callable[[str], bytes], path: str, columns: int) -> list[list[str]]:
    try:
        data = read_file(path)
    except NotFound:
        return []
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    rows = (line.rstrip("\r").split(":") for line in lines if line and not line.startswith("#"))
    return [row for row in rows if len(row) >= columns]


class ImageFiles:
    """Read access to a root file system by fd. A context manager; owns the fd and the (detached) mount behind it."""

    __slots__ = ("_root_fd",)

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd

    def __enter__(self) -> ImageFiles:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._root_fd)

    def read(self, path: str) -> bytes:
        """A regular file of at most MAX_USER_FILE bytes; NotFound when it is missing or something else."""
        import stat

        from pycontainerd.lib.linux.path import open_in_root

        try:
            # O_NONBLOCK: a FIFO in its place must not stop us.
            fd = open_in_root(self._root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"{path} of the image can't be read: {error.strerror}") from error
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise NotFound(f"{path} of the image is not a regular file")
            data = b"" if found.st_size > MAX_USER_FILE else os.read(fd, MAX_USER_FILE + 1)
        finally:
            os.close(fd)
        if max(len(data), found.st_size) > MAX_USER_FILE:
            raise InvalidArgument(
                f"{path} of the image is larger than {MAX_USER_FILE} bytes: invalid argument"
            )
        return data

    def open_folder(self, path: str) -> int:
        """A descriptor of a folder, the caller's to close; NotFound when there is none."""
        from pycontainerd.lib.linux.path import open_in_root

        try:
            return open_in_root(self._root_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"{path} of the image is no folder: {error.strerror}") from error


def open_folder(path: str) -> ImageFiles:
    """The files of a plain root folder (--rootfs)."""
    return ImageFiles(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


def open_mounts(mounts: Sequence[types.Mount]) -> ImageFiles:
    """The files of a snapshot: mounted read-only on a folder of ours, opened, and detached at once."""
    files: ImageFiles = mounted([_read_only(entry) for entry in mounts], open_folder)
    return files


def mounted(mounts: Sequence[types.Mount], act: Callable[[str], Any]) -> Any:
    """What `act` returns of a folder of ours that the mounts are made on while it runs."""
    with trace.span("load code", module="ctypes"):
        import ctypes  # noqa: F401 - most of what the next line loads
    with trace.span("load code", module="lib.mounts"):
        from pycontainerd.lib import mounts as lib_mounts
        from pycontainerd.lib.linux import mount as kernel

    folder = f"{os.environ.get('TMPDIR') or '/tmp'}/pycontainerd-{os.urandom(8).hex()}"
    os.mkdir(folder, 0o700)  # fails on a name that somebody planted
    try:
        lib_mounts.attach(mounts, folder)
        try:
            return act(folder)
        finally:
            with trace.span("unmount", target=folder):
                for _ in mounts:
                    kernel.umount2(folder, flags=kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)
    finally:
        os.rmdir(folder)


def _read_only(entry: types.Mount) -> types.Mount:
    # Who owns the files makes no difference to who reads them: no ids are mapped for it.
    options = [
        option
        for option in entry.options
        if option not in ("ro", "rw") and not option.startswith(("uidmap=", "gidmap="))
    ]
    return types.Mount(type=entry.type, source=entry.source, options=["ro", *_read_only_overlay(options)])


def _read_only_overlay(options: Sequence[str]) -> list[str]:
    """The upper directory as the topmost lower one: a writable overlay would claim the task's own work folder."""
    upper = [option.removeprefix("upperdir=") for option in options if option.startswith("upperdir=")]
    kept = [option for option in options if not option.startswith(("workdir=", "upperdir="))]
    if not upper:
        return kept
    return [
        f"lowerdir={upper[0]}:{o.removeprefix('lowerdir=')}" if o.startswith("lowerdir=") else o for o in kept
    ]
