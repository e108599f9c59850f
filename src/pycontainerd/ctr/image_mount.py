"""`ctr images mount` and `unmount`: an image's root file system on a folder, kept by a lease of the folder's name."""

from __future__ import annotations

import os

from pycontainerd.client import images, leases, snapshots, unpack
from pycontainerd.ctr import display, session, text
from pycontainerd.lib import errdefs, mounts, platforms
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.light import types


def mount(call: Call) -> int:
    """Unpacks the image for a platform, makes a view (or with --rw a writable snapshot) of it, and mounts that."""
    ref, target = call.argument(0), call.argument(1)
    if not ref:
        raise InvalidArgument("please provide an image reference to mount")
    key = target or f"ctr-images-mount-{leases.random_id()}"
    wanted = call.flags.text("platform")
    snapshotter = session.snapshotter(call)
    with session.connect(call) as client:
        if not target:
            _require_daemons_mounts(client)
        made = _hold(client, key, snapshotter, call.flags.number("expiration") // 1_000_000_000)
        try:
            try:
                platform = platforms.parse(wanted) if wanted else platforms.default()
            except InvalidArgument as error:
                raise InvalidArgument(
                    f"unable to parse platform {wanted}: {error}", hint=error.hint
                ) from error
            target = _mount(call, client, ref, (key, target), platforms.only(platform))
        except BaseException:
            if made:
                _release(client, key)
            raise
    display.write(f"{target}\n")
    return 0


def _require_daemons_mounts(client: Client) -> None:
    from pycontainerd.client import activation

    if not activation.is_served(client):
        raise InvalidArgument(
            "please provide a target path to mount to",
            hint="only containerd 2.2 and later choose a folder by themselves",
        )


def _hold(client: Client, key: str, snapshotter: str, seconds: int) -> bool:
    """The lease that keeps the snapshot for a while; whether it is new."""
    labels = {**leases.expiring(seconds), f"containerd.io/gc.ref.snapshot.{snapshotter}": key}
    client.lease = key
    try:
        leases.create(client, key, labels)
    except errdefs.AlreadyExists:
        return False
    return True


def _release(client: Client, key: str) -> None:
    client.lease = ""
    try:
        leases.delete(client, key)
    except errdefs.NotFound:
        return  # its time was over


def _mount(call: Call, client: Client, ref: str, place: tuple[str, str], matcher: platforms.Matcher) -> str:
    """`place` is the snapshot's key and the folder, which may be the daemon's to choose; where it is mounted."""
    key, target = place
    snapshotter = session.snapshotter(call)
    image = images.from_wire(images.get(client, ref).target)
    try:
        chain_id = unpack.unpack(client, image, snapshotter, matcher, sync_fs=call.flags.on("sync-fs"))
    except ContainerdError as error:
        raise type(error)(f"error unpacking image: {error}", hint=error.hint) from error
    display.write(f"{chain_id}\n")
    make = snapshots.prepare if call.flags.on("rw") else snapshots.view
    labels = text.labels_from(call.flags.texts("label"))
    try:
        wanted, made = make(client, snapshotter, key, chain_id, labels), True
    except errdefs.AlreadyExists:
        wanted, made = snapshots.mounts(client, snapshotter, key), False
    try:
        if not target:
            return activated(client, key, wanted)
        mounts.attach(wanted, target)
    except (ContainerdError, OSError) as error:
        if made:
            snapshots.remove(client, snapshotter, key)
        if isinstance(error, OSError):
            raise _failure(error, target) from error
        raise
    return target


def activated(client: Client, key: str, wanted: Sequence[types.Mount]) -> str:
    """The folder that the daemon has mounted a snapshot on."""
    from pycontainerd.client import activation

    left = activation.activate(client, key, wanted)
    if len(left) != 1 or left[0].type != "bind":
        activation.deactivate(client, key)
        raise errdefs.Unknown(
            f"the daemon left {len(left)} mounts to be made here: cannot handle returned mounts",
            hint="name a folder to mount on",
        )
    return left[0].source


def unmount(call: Call) -> int:
    """Unmounts everything on the folder; with --rm the snapshot and its lease go too."""
    target = call.argument(0)
    if not target:
        raise InvalidArgument("please provide a target path to unmount from")
    with session.connect(call) as client:
        try:
            mounts.unmount_all(target)
        except OSError as error:
            raise _failure(error, target, f"failed to unmount target {target}: ") from error
        if call.flags.on("rm"):
            _release(client, target)
            try:
                snapshots.remove(client, session.snapshotter(call), target)
            except errdefs.NotFound:
                pass  # nothing was mounted by us
            except ContainerdError as error:
                raise type(error)(f"error removing snapshot: {error}", hint=error.hint) from error
    display.write(f"{target}\n")
    return 0


def _failure(error: OSError, target: str, what: str = "") -> ContainerdError:
    """The kernel's word, as ctr prints it."""
    kind = errdefs.NotFound if isinstance(error, FileNotFoundError) else errdefs.Unknown
    number = error.errno or 0
    return kind(f"{what}{os.strerror(number).lower()}", hint=f"the folder is {target}", errno=number)
