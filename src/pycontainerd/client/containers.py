"""Containers: records of what to run, with their snapshot and spec.

Spec: containerd containers service
"""

from __future__ import annotations

from pycontainerd.client import snapshots, tasks
from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import containers_v1, wkt
from pycontainerd.lib.oci import document

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pycontainerd.client.client import Client
    from pycontainerd.lib.api.codec import Message
    from pycontainerd.lib.api.light import types


def get(client: Client, container_id: str) -> containers_v1.Container:
    """A container's record; NotFound, with ctr's text, when there is none."""
    reply: containers_v1.GetContainerResponse = client.call(
        containers_v1.CONTAINERS, "Get", containers_v1.GetContainerRequest(id=container_id)
    )
    return reply.container


def walk(client: Client, filters: Sequence[str] = ()) -> list[containers_v1.Container]:
    """The containers of the namespace."""
    reply: containers_v1.ListContainersResponse = client.call(
        containers_v1.CONTAINERS, "List", containers_v1.ListContainersRequest(filters=list(filters))
    )
    return list(reply.containers)


def create(
    client: Client,
    container_id: str,
    spec: bytes,
    *,
    runtime: str,
    options: Message | None = None,
    **fields: Any,
) -> containers_v1.Container:
    """A new record; AlreadyExists when the id is taken. `spec` is the runtime-spec document.

    Further fields: image, labels, snapshotter, snapshot_key, sandbox, extensions (name -> message).
    """
    return create_packed(
        client,
        container_id,
        wkt.Any(type_url=anys.SPEC_URL, value=spec),
        runtime=runtime,
        options=None if options is None else anys.pack(options),
        **fields,
    )


def create_packed(
    client: Client,
    container_id: str,
    spec: wkt.Any,
    *,
    runtime: str,
    options: wkt.Any | None = None,
    image: str = "",
    labels: Mapping[str, str] | None = None,
    snapshotter: str = "",
    snapshot_key: str = "",
    sandbox: str = "",
    extensions: Mapping[str, Message] | None = None,
) -> containers_v1.Container:
    """The same from a spec and options that are packed already."""
    container = containers_v1.Container(
        id=container_id,
        labels=dict(labels or {}),
        image=image,
        runtime=containers_v1.Container.Runtime(name=runtime, options=options),
        spec=spec,
        snapshotter=snapshotter,
        snapshot_key=snapshot_key,
        sandbox=sandbox,
        extensions={name: anys.pack(extension) for name, extension in (extensions or {}).items()},
    )
    reply: containers_v1.CreateContainerResponse = client.call(
        containers_v1.CONTAINERS, "Create", containers_v1.CreateContainerRequest(container=container)
    )
    return reply.container


def set_labels(client: Client, container_id: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Sets (or, with an empty value, removes) single labels; all labels afterwards."""
    get(client, container_id)  # says which namespace it isn't in
    reply: containers_v1.UpdateContainerResponse = client.call(
        containers_v1.CONTAINERS,
        "Update",
        containers_v1.UpdateContainerRequest(
            container=containers_v1.Container(id=container_id, labels=dict(labels)),
            update_mask=wkt.FieldMask(paths=[f"labels.{key}" for key in labels]),
        ),
    )
    return dict(reply.container.labels)


def delete(client: Client, container_id: str, *, keep_snapshot: bool = False) -> None:
    """Removes a container and, unless kept, its snapshot; FailedPrecondition while it has a task that isn't stopped."""
    record = get(client, container_id)
    if record.snapshot_key and not keep_snapshot:
        # Before the record, as containerd's client does: what refers to the snapshot goes last.
        try:
            snapshots.remove(client, record.snapshotter or snapshots.DEFAULT, record.snapshot_key)
        except errdefs.NotFound:
            keep_snapshot = True  # removed already
    client.call(containers_v1.CONTAINERS, "Delete", containers_v1.DeleteContainerRequest(id=container_id))


def remove(client: Client, record: containers_v1.Container) -> None:
    """Removes a container that the caller made and whose task it has deleted, and its snapshot, side by side."""
    request = containers_v1.DeleteContainerRequest(id=record.id)
    with trace.span("remove container", id=record.id):
        snapshot = None
        if record.snapshot_key:
            snapshotter = record.snapshotter or snapshots.DEFAULT
            snapshot = snapshots.start_remove(client, snapshotter, record.snapshot_key)
        client.wait(client.start(containers_v1.CONTAINERS, "Delete", request))
        try:
            if snapshot is not None:
                client.wait(snapshot)
        except errdefs.NotFound:
            pass  # removed already


def spec_of(record: containers_v1.Container) -> dict[str, Any]:
    """The runtime-spec document of a record, its sections objects where it has them; InvalidArgument for anything else.

    What is in the sections is for the runtime to judge: whoever may write records may write what they like.
    """
    what = f"the spec of container {record.id} is no document"
    try:
        found = document.loads(record.spec.value or b"{}")
    except document.DocumentError as error:
        raise errdefs.InvalidArgument(f"{what}: {error}") from error
    if not isinstance(found, dict):
        raise errdefs.InvalidArgument(f"{what}: not an object")
    for section in ("process", "root", "linux"):
        if not isinstance(found.get(section), dict | None):
            raise errdefs.InvalidArgument(f"{what}: {section} is not an object")
    return {key: value for key, value in found.items() if value is not None}


def rootfs_of(client: Client, record: containers_v1.Container) -> list[types.Mount]:
    """What to mount as the root of a container's task; nothing where the spec names a plain folder."""
    if not record.snapshot_key:
        return []
    return snapshots.mounts(client, record.snapshotter or snapshots.DEFAULT, record.snapshot_key)


def task_of(client: Client, container_id: str) -> tasks.Process:
    """The task of a container that exists; NotFound where either is missing."""
    get(client, container_id)
    return tasks.load(client, container_id)
