"""Checkpoints: a container (and with criu its processes) as an image, and a container made of one again.

    index    annotations: image, runtime, snapshotter
      |- runtime options, if any     |- spec (proto)     |- the image's own index or manifest (--image)
      |- what the shim dumped (--task)                   `- the writable layer (--rw)

Spec: containerd container_checkpoint_opts, container_restore_opts
"""

from __future__ import annotations

import contextlib

from pycontainerd.client import containers, content, diff, images, snapshots, tasks, unpack
from pycontainerd.lib import digest as digests
from pycontainerd.lib import errdefs, platforms
from pycontainerd.lib.api.light import diff_v1, runc_v1, task_types, tasks_v1, wkt
from pycontainerd.lib.oci import document as documents
from pycontainerd.lib.oci import image as oci

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Final

    from pycontainerd.client.client import Client
    from pycontainerd.lib.api.light import containers_v1

_KIND: Final = "application/vnd.containerd.container."
RUNTIME_OPTIONS: Final = _KIND + "checkpoint.runtime.options+proto"
SPEC: Final = _KIND + "checkpoint.config.v1+proto"
DUMP: Final = _KIND + "criu.checkpoint.criu.tar"
_IMAGE_NAME: Final = "org.opencontainers.image.ref.name"
_RUNTIME: Final = "io.containerd.checkpoint.runtime"
_SNAPSHOTTER: Final = "io.containerd.checkpoint.snapshotter"


def options(*, leave: bool = True, image_path: str = "", work_path: str = "") -> runc_v1.CheckpointOptions:
    """What a runc shim is told: whether to leave the processes running, and folders for what it dumps and logs."""
    return runc_v1.CheckpointOptions(exit=not leave, image_path=image_path, work_path=work_path)


@contextlib.contextmanager
def paused(client: Client, container_id: str) -> Iterator[tasks.Process | None]:
    """The container's task, frozen for the block if it runs; None where there is none."""
    process = tasks.Process(client, container_id)
    try:
        running = process.info().status == task_types.Status.RUNNING
    except errdefs.NotFound:
        yield None
        return
    if running:
        tasks.pause(client, container_id)
    try:
        yield process
    finally:
        if running:
            # It has ended where the checkpoint was its end.
            with contextlib.suppress(errdefs.NotFound, errdefs.FailedPrecondition):
                tasks.resume(client, container_id)


def dump(client: Client, container_id: str, wanted: runc_v1.CheckpointOptions) -> list[oci.Descriptor]:
    """Has the shim dump a task; the blobs, or none where a folder was given. The daemon's error where it can't."""
    request = tasks_v1.CheckpointTaskRequest(
        container_id=container_id,
        options=wkt.Any(type_url=runc_v1.CheckpointOptions.FULL_NAME, value=wanted.SerializeToString()),
    )
    reply: tasks_v1.CheckpointTaskResponse = client.call(tasks_v1.TASKS, "Checkpoint", request)
    return [images.from_wire(descriptor) for descriptor in reply.descriptors]


def create(
    client: Client,
    container_id: str,
    ref: str,
    *,
    with_rw: bool = False,
    with_image: bool = False,
    with_task: bool = False,
) -> oci.Descriptor:
    """A checkpoint of a container under the name `ref`; the caller holds a lease. AlreadyExists for a name in use.

    Unlike containerd's client, which leaves it to the dump, the spec is always in it: so a container without a running
    task can be made again too.
    """
    record = containers.get(client, container_id)
    parts = [_blob(client, SPEC, record.spec.SerializeToString())]
    if record.runtime.HasField("options"):
        parts.insert(0, _blob(client, RUNTIME_OPTIONS, record.runtime.options.SerializeToString()))
    with paused(client, container_id) as process:
        if with_image:
            parts.append(images.from_wire(images.get(client, record.image).target))
        if with_task:
            if process is None:
                raise errdefs.NotFound(f"no running task found: task {container_id} not found: not found")
            # The spec comes once.
            dumped = dump(client, container_id, options())
            parts += [part for part in dumped if part.media_type != SPEC]
        if with_rw:
            ref_key = f"checkpoint-rw-{container_id}"
            parts.append(
                diff.create(
                    client, record.snapshotter, record.snapshot_key, media_type=oci.LAYER_GZIP, ref=ref_key
                )
            )
    annotations = {_IMAGE_NAME: record.image, _RUNTIME: record.runtime.name, _SNAPSHOTTER: record.snapshotter}
    target = write_index(client, parts, annotations)
    images.create(client, ref, target)
    return target


def write_index(
    client: Client, parts: Sequence[oci.Descriptor], annotations: dict[str, str]
) -> oci.Descriptor:
    """The index of a checkpoint, with labels that keep its parts."""
    here = platforms.default()
    entries: list[dict[str, Any]] = []
    for part in parts:
        is_image = oci.is_index(part.media_type) or oci.is_manifest(part.media_type)
        platform = None if is_image else here
        entries.append(oci.Descriptor(part.media_type, part.digest, part.size, platform=platform).to_json())
    document = {"schemaVersion": 2, "manifests": entries, "annotations": dict(sorted(annotations.items()))}
    data = documents.dumps(document).encode()
    digest = digests.of(data)
    labels = {f"containerd.io/gc.ref.content.{place}": str(part.digest) for place, part in enumerate(parts)}
    content.write_blob(client, f"checkpoint-{digest}", [data], size=len(data), digest=digest, labels=labels)
    return oci.Descriptor(oci.INDEX, digest, len(data))


def _blob(client: Client, media_type: str, data: bytes) -> oci.Descriptor:
    digest = digests.of(data)
    content.write_blob(client, f"checkpoint-{digest}", [data], size=len(data), digest=digest)
    return oci.Descriptor(media_type, digest, len(data))


def restore(
    client: Client, container_id: str, checkpoint: oci.Descriptor, *, with_rw: bool = False
) -> containers_v1.Container:
    """A container of a checkpoint, with a snapshot of its image. The caller holds a lease.

    NotFound, in containerd's words, for what the checkpoint or the content store lacks. Nothing is left of a failure.
    """
    index = oci.parse_index(content.read_blob(client, checkpoint.digest), checkpoint.media_type)
    name = _annotation(index, _IMAGE_NAME, "image name")
    snapshotter = _annotation(index, _SNAPSHOTTER, "snapshotter")
    image = images.from_wire(images.get(client, name).target)
    spec = wkt.Any.FromString(_part(client, index, SPEC))
    runtime = _annotation(index, _RUNTIME, "runtime")
    runtime_options = wkt.Any()
    with contextlib.suppress(errdefs.NotFound):  # containerd 1.7's client leaves empty ones out
        runtime_options = wkt.Any.FromString(_part(client, index, RUNTIME_OPTIONS))
    parent = unpack.unpack(client, image, snapshotter, platforms.default_matcher())
    mounts = snapshots.prepare(client, snapshotter, container_id, parent)
    try:
        if with_rw:
            layer = find(index, oci.LAYER_GZIP)
            request = diff_v1.ApplyRequest(diff=images.to_wire(layer), mounts=mounts)
            client.call(diff_v1.DIFF, "Apply", request)
        return containers.create_packed(
            client,
            container_id,
            spec,
            runtime=runtime,
            options=runtime_options if runtime_options.type_url else None,
            image=name,
            snapshotter=snapshotter,
            snapshot_key=container_id,
        )
    except BaseException:
        snapshots.remove(client, snapshotter, container_id)
        raise


def find(index: oci.Index, media_type: str) -> oci.Descriptor:
    """The first part of a kind."""
    for entry in index.manifests:
        if entry.media_type == media_type:
            return entry
    raise errdefs.NotFound("media type not found", hint=f"the checkpoint holds no {media_type}")


def _part(client: Client, index: oci.Index, media_type: str) -> bytes:
    return content.read_blob(client, find(index, media_type).digest)


def _annotation(index: oci.Index, key: str, what: str) -> str:
    value = index.annotations.get(key, "")
    if not value:
        raise errdefs.NotFound(f"{what} not found in index", hint="it is no checkpoint of a container")
    return value
