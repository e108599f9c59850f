"""`ctr containers checkpoint` and `restore`, `ctr tasks checkpoint`."""

from __future__ import annotations

import time

from pycontainerd.client import checkpoint, containers, content, images, leases, tasks
from pycontainerd.ctr import attachment, display, session, text
from pycontainerd.lib import errdefs
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call


def _arguments(call: Call) -> tuple[str, str]:
    container_id, ref = call.argument(0), call.argument(1)
    if not container_id:
        raise InvalidArgument("container id must be provided")
    if not ref:
        raise InvalidArgument("ref must be provided")
    return container_id, ref


def container(call: Call) -> int:
    """`containers checkpoint`: the container as an image."""
    container_id, ref = _arguments(call)
    flags = call.flags
    with session.connect(call) as client, leases.held(client):
        checkpoint.create(
            client,
            container_id,
            ref,
            with_rw=flags.on("rw"),
            with_image=flags.on("image"),
            with_task=flags.on("task"),
        )
    return 0


def task(call: Call) -> int:
    """`tasks checkpoint`: the processes, into a folder or as an image whose name is printed."""
    container_id = call.argument(0)
    if not container_id:
        raise InvalidArgument("container id must be provided")
    flags = call.flags
    folder = flags.text("image-path")
    wanted = checkpoint.options(
        leave=not flags.on("exit"), image_path=folder, work_path=flags.text("work-path")
    )
    with session.connect(call) as client, leases.held(client):
        record = containers.get(client, container_id)
        tasks.load(client, container_id)
        with checkpoint.paused(client, container_id):
            parts = checkpoint.dump(client, container_id, wanted)
        if folder:
            return 0
        name = f"containerd.io/checkpoint/{container_id}:{time.strftime('%m-%d-%Y-%H:%M:%S')}"
        if record.image:
            parts.append(images.from_wire(images.get(client, record.image).target))
        target = checkpoint.write_index(client, parts, {"image.name": record.image} if record.image else {})
        images.create(client, name, target, {"containerd.io/checkpoint": "true"})
    display.write(f"{name}\n")
    return 0


def restore(call: Call) -> int:
    """`containers restore`: makes the container and starts it; its output is followed on a terminal only, as in ctr."""
    container_id, ref = _arguments(call)
    with session.connect(call) as client, leases.held(client):
        target = _find(client, ref)
        index = oci.parse_index(content.read_blob(client, target.digest), target.media_type)
        # Looked for first: nothing is made of what can't be brought to life.
        dump = checkpoint.find(index, checkpoint.DUMP) if call.flags.on("live") else None
        record = checkpoint.restore(client, container_id, target, with_rw=call.flags.on("rw"))
        try:
            return _start(call, client, container_id, dump)
        except BaseException:
            containers.remove(client, record)
            raise


def _start(call: Call, client: Client, container_id: str, dump: oci.Descriptor | None) -> int:
    record = containers.get(client, container_id)
    terminal = bool(containers.spec_of(record).get("process", {}).get("terminal"))
    stdio = attachment.make_stdio(client, call.flags, container_id, terminal=terminal)
    keep = False
    try:
        rootfs = containers.rootfs_of(client, record)
        process = tasks.create(client, container_id, rootfs, stdio.streams, checkpoint=dump)
        if not terminal:
            process.start()
            keep = True
            return 0
        status = attachment.follow(client, process, stdio)
        process.delete()
        return status.code
    finally:
        stdio.close(keep=keep)


def _find(client: Client, ref: str) -> oci.Descriptor:
    """The checkpoint of that name, from its registry where it isn't here."""
    try:
        return images.from_wire(images.get(client, ref).target)
    except errdefs.NotFound:
        return _fetch(client, ref)


def _fetch(client: Client, ref: str) -> oci.Descriptor:
    from pycontainerd.client import pull
    from pycontainerd.lib import platforms
    from pycontainerd.lib.registry.hosts import Options
    from pycontainerd.lib.registry.resolver import Resolver

    try:
        resolver = Resolver(ref, Options(), text.inform)
        target = resolver.resolve()
    except errdefs.ContainerdError as error:
        raise type(error)(f'failed to resolve reference "{ref}": {error}', hint=error.hint) from error
    try:
        pull.Fetcher(client, resolver, [platforms.everything()]).run(target, lambda: None)
    finally:
        resolver.close()
    images.create_or_update(client, ref, target)
    return target
