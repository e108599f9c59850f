"""`ctr images mount` and `unmount`: an image's root file system on a folder, kept by a lease of the folder's name."""

from __future__ import annotations

import os

from pycontainerd.client import images, leases, snapshots, unpack
from pycontainerd.ctr import display, session, text
from pycontainerd.lib import errdefs, mounts, platforms
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call


def mount(call: Call) -> int:
    """Unpacks the image for a platform, makes a view (or with --rw a writable snapshot) of it, and mounts that."""
    ref, target = call.argument(0), call.argument(1)
    if not ref:
        raise InvalidArgument("please provide an image reference to mount")
    if not target:
        raise InvalidArgument("please provide a target path to mount to")
    wanted = call.flags.text("platform")
    snapshotter = session.snapshotter(call)
    with session.connect(call) as client:
        made = _hold(client, target, snapshotter)
        try:
            try:
                platform = platforms.parse(wanted) if wanted else platforms.default()
            except InvalidArgument as error:
                raise InvalidArgument(
                    f"unable to parse platform {wanted}: {error}", hint=error.hint
                ) from error
            _mount(call, client, ref, target, platforms.only(platform))
        except BaseException:
            if made:
                _release(client, target)
            raise
    display.write(f"{target}\n")
    return 0


def _hold(client: Client, target: str, snapshotter: str) -> bool:
    """The lease that keeps the snapshot for a day; whether it is new."""
    labels = {**leases.expiring(), f"containerd.io/gc.ref.snapshot.{snapshotter}": target}
    client.lease = target
    try:
        leases.create(client, target, labels)
    except errdefs.AlreadyExists:
        return False
    return True


def _release(client: Client, target: str) -> None:
    client.lease = ""
    try:
        leases.delete(client, target)
    except errdefs.NotFound:
        return  # its time was over


def _mount(call: Call, client: Client, ref: str, target: str, matcher: platforms.Matcher) -> None:
    snapshotter = session.snapshotter(call)
    image = images.from_wire(images.get(client, ref).target)
    try:
        chain_id = unpack.unpack(client, image, snapshotter, matcher)
    except ContainerdError as error:
        raise type(error)(f"error unpacking image: {error}", hint=error.hint) from error
    display.write(f"{chain_id}\n")
    make = snapshots.prepare if call.flags.on("rw") else snapshots.view
    labels = text.labels_from(call.flags.texts("label"))
    try:
        wanted, made = make(client, snapshotter, target, chain_id, labels), True
    except errdefs.AlreadyExists:
        wanted, made = snapshots.mounts(client, snapshotter, target), False
    try:
        mounts.attach(wanted, target)
    except OSError as error:
        if made:
            snapshots.remove(client, snapshotter, target)
        raise _failure(error, target) from error


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
