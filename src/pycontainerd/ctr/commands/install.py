"""`ctr install`: the programs (and libraries) of an image into the daemon's folder for them, or another one."""

from __future__ import annotations

import os

from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import BOOL, STRING, Flag
from pycontainerd.lib.errdefs import AlreadyExists, NotFound, Unknown

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.client.client import Client
    from pycontainerd.client.image_spec import ImageFiles
    from pycontainerd.ctr.command import Call

_CHUNK: Final = 1 << 20


def _install(call: Call) -> int:
    from pycontainerd.client import image_spec, images, leases, snapshots, unpack
    from pycontainerd.ctr import session
    from pycontainerd.lib import platforms

    folders = ("bin", "lib") if call.flags.on("libs") else ("bin",)
    with session.connect(call) as client, leases.held(client):
        image = images.from_wire(images.get(client, call.argument(0)).target)
        path = call.flags.text("path") or _managed_path(client)
        parent = unpack.unpack(client, image, snapshots.DEFAULT, platforms.default_matcher())
        key = f"install-{leases.random_id()}"
        mounts = snapshots.view(client, snapshots.DEFAULT, key, parent)
        try:
            with image_spec.open_mounts(mounts) as files:
                for folder in folders:
                    _take(files, folder, path, replace=call.flags.on("replace"))
        finally:
            snapshots.remove(client, snapshots.DEFAULT, key)
    return 0


def _managed_path(client: Client) -> str:
    """Where the daemon wants programs to be: what its opt plugin says."""
    from pycontainerd.lib.api.light import introspection_v1

    request = introspection_v1.PluginsRequest(filters=["id==opt"])
    reply = client.call(introspection_v1.INTROSPECTION, "Plugins", request)
    path = next((plugin.exports.get("path", "") for plugin in reply.plugins), "")
    if not path:
        raise NotFound("opt service not enabled", hint="say where to: --path FOLDER")
    return str(path)


def _take(files: ImageFiles, folder: str, path: str, *, replace: bool) -> None:
    """The files and links that lie in one folder of the image; what else lies there is no program."""
    try:
        source_fd = files.open_folder(folder)
    except NotFound:
        return
    try:
        names = sorted(os.listdir(source_fd))
        target = f"{path}/{folder}"
        if not os.path.isdir(target):
            _make(target)
        # Looked at first: all of them or none.
        for name in names:
            if not replace and os.path.lexists(f"{target}/{name}"):
                raise AlreadyExists(f"cannot replace {folder}/{name} in {path}", hint="--replace does")
        target_fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                _copy(source_fd, target_fd, name)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


def _make(folder: str) -> None:
    from pycontainerd.ctr.text import os_text

    try:
        os.mkdir(folder, 0o711)
    except OSError as error:
        raise Unknown(os_text(error, "mkdir"), hint="does the folder above it exist?") from error


def _copy(source_fd: int, target_fd: int, name: str) -> None:
    """One file or link, put in place whole: a program that runs is not written to."""
    import stat

    found = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
    temporary = f".{name[:200]}.{os.urandom(4).hex()}"
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=source_fd), temporary, dir_fd=target_fd)
    elif stat.S_ISREG(found.st_mode):
        _copy_file(source_fd, name, target_fd, temporary, stat.S_IMODE(found.st_mode))
    else:
        return
    os.rename(temporary, name, src_dir_fd=target_fd, dst_dir_fd=target_fd)


def _copy_file(source_fd: int, name: str, target_fd: int, temporary: str, mode: int) -> None:
    file_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source_fd)
    try:
        out_fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target_fd
        )
        try:
            while os.sendfile(out_fd, file_fd, None, _CHUNK):  # from where the file is, until its end
                pass
            os.fchmod(out_fd, mode)
        except BaseException:
            os.unlink(temporary, dir_fd=target_fd)
            raise
        finally:
            os.close(out_fd)
    finally:
        os.close(file_fd)


COMMAND = Command(
    "install",
    "take programs out of an image",
    _install,
    arguments="<ref>",
    flags=(
        Flag("libs, l", BOOL, "take its libraries (/lib) too"),
        Flag("replace, r", BOOL, "replace what is there"),
        Flag("path", STRING, "folder to install to, instead of the daemon's own"),
    ),
    description="what lies in the image's /bin goes to the daemon's folder for programs",
)
