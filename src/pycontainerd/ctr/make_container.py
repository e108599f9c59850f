"""Making a container: its image's snapshot, its spec and its record, or nothing of them."""

from __future__ import annotations

from pycontainerd.client import containers, image_spec, images, leases, snapshots, spec_opts, tasks
from pycontainerd.client.layer_files import SnapshotFiles
from pycontainerd.ctr import container_spec, session, text
from pycontainerd.lib import digest as digests
from pycontainerd.lib import errdefs, platforms, trace
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pycontainerd.client.client import Client
    from pycontainerd.client.spec_opts import Spec
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.codec import Message
    from pycontainerd.lib.api.light import containers_v1, types
    from pycontainerd.lib.oci.image import Descriptor, ImageConfig

# What containerd and its other clients read from labels as orders: never taken from an image (CVE-2026-53488).
_RESERVED = (
    "containerd.io/",
    "io.containerd.",
    "io.cri-containerd",
    "com.docker.",
    "org.systemd.",
    "run.oci.",
    "io.podman.",
)


class Made:
    """A container that is there: its record, its Spec, and what to mount as its root (nothing for a plain folder)."""

    __slots__ = ("record", "rootfs", "spec")

    def __init__(
        self, record: containers_v1.Container, spec: Spec, rootfs: Sequence[types.Mount] = ()
    ) -> None:
        self.record = record
        self.spec = spec
        self.rootfs = list(rootfs)


def make(call: Call, client: Client) -> Made:
    """A new container from a command's flags and arguments."""
    flags = call.flags
    if flags.text("config"):
        container_id, args = call.argument(0), call.arguments[1:]
        if not container_id:
            raise InvalidArgument("with spec config file, container id should be provided")
        if args or flags.on("rootfs"):
            raise InvalidArgument("with spec config file, only container id should be provided")
        spec = container_spec.from_file(flags.text("config"))
        labels = text.labels_from(flags.texts("label"))
        return Made(_record(call, client, container_id, spec, labels=labels), spec)
    ref, container_id, args = call.argument(0), call.argument(1), call.arguments[2:]
    if not ref:
        raise InvalidArgument("image ref must be provided")
    if not container_id:
        raise InvalidArgument("container id must be provided")
    container_spec.require_consistent(flags)
    if flags.text("sandbox"):
        _require_sandbox(client, flags.text("sandbox"))
    if flags.on("rootfs"):
        return _from_folder(call, client, ref, container_id, args)
    with leases.held(client, reading=True) as lease:
        return _from_image(call, client, ref, container_id, args, lease)


def _require_sandbox(client: Client, sandbox_id: str) -> None:
    """A daemon without sandboxes would drop the name unsaid."""
    from pycontainerd.client import sandboxes

    try:
        sandboxes.get(client, sandbox_id)
    except errdefs.NotFound as error:
        raise errdefs.NotFound(
            f'sandbox "{sandbox_id}" in namespace "{client.namespace}": not found',
            hint="sandboxes ls lists them, sandboxes run makes one",
        ) from error


def _from_folder(call: Call, client: Client, folder: str, container_id: str, args: Sequence[str]) -> Made:
    def read_file(path: str) -> bytes:
        with image_spec.open_folder(folder) as files:
            return files.read(path)

    spec = container_spec.build(
        call.flags, client.namespace, container_id, args, image=None, read_file=read_file, rootfs=folder
    )
    labels = text.labels_from(call.flags.texts("label"))
    return Made(_record(call, client, container_id, spec, labels=labels), spec)


def _from_image(
    call: Call, client: Client, ref: str, container_id: str, args: Sequence[str], lease: leases.held
) -> Made:
    flags = call.flags
    image = images.get(client, ref)
    wanted = flags.text("platform") if flags.flag("platform") else ""
    matcher = platforms.only(platforms.parse(wanted)) if wanted else platforms.default_matcher()
    snapshotter = session.snapshotter(call)
    target = images.from_wire(image.target)
    with trace.span("read image config", image=ref):
        _, manifest = images.manifest_for(client, target, matcher)
        config = images.config_of(client, manifest)
    labels = {
        **{key: value for key, value in config.labels.items() if _is_plain(key, value)},
        **{key: value for key, value in dict(image.labels).items() if _is_plain(key, value)},
        **text.labels_from(flags.texts("label")),
    }
    labels[tasks.STOP_SIGNAL_LABEL] = config.stop_signal or "SIGTERM"
    lease.wait()
    mounts = _prepare(call, client, container_id, config, target, matcher)
    try:
        with SnapshotFiles(mounts) as files, trace.span("build spec"):
            spec = container_spec.build(
                flags, client.namespace, container_id, args, image=config, read_file=files.read
            )
        record = _record(call, client, container_id, spec, labels=labels, image=ref, snapshotter=snapshotter)
    except BaseException:
        try:
            snapshots.remove(client, snapshotter, container_id)
        except errdefs.NotFound:
            pass  # a collection was faster
        raise
    return Made(record, spec, mounts)


def _is_plain(key: str, value: str) -> bool:
    """Images' labels are data; one that a program would take as an order, or that is too long, is left out."""
    return not key.startswith(_RESERVED) and len(key) + len(value) <= 4096


def _prepare(
    call: Call, client: Client, key: str, config: ImageConfig, target: Descriptor, matcher: platforms.Matcher
) -> list[types.Mount]:
    """The container's snapshot; an image that isn't unpacked yet is unpacked first."""
    snapshotter = session.snapshotter(call)
    parent = str(digests.chain_id(config.diff_ids)) if config.diff_ids else ""
    make = _how_to_prepare(call, client, snapshotter, key)
    try:
        return make(parent)
    except errdefs.NotFound:
        # Asked for only now: nearly always it is there.
        if not parent or snapshots.exists(client, snapshotter, parent):
            raise
    from pycontainerd.client import unpack

    flags = call.flags
    sync_fs = flags.flag("sync-fs") is not None and flags.on("sync-fs")
    unpack.unpack(client, target, snapshotter, matcher, sync_fs=sync_fs)
    return make(parent)


def _how_to_prepare(
    call: Call, client: Client, snapshotter: str, key: str
) -> Callable[[str], list[types.Mount]]:
    """Of a parent: a plain snapshot, one whose ids the snapshotter may shift (--remap-labels), or one of a copy."""
    flags = call.flags
    labels = text.labels_from(flags.texts("snapshotter-label"))
    if flags.flag("uidmap") and flags.texts("uidmap"):
        from pycontainerd.client import remap

        maps = remap.Maps(*container_spec.id_mappings(flags))
        if flags.on("remap-labels"):
            return lambda parent: remap.prepare_labelled(client, snapshotter, key, parent, maps, labels)
        return lambda parent: remap.prepare(client, snapshotter, key, parent, maps)
    return lambda parent: snapshots.prepare(client, snapshotter, key, parent, labels)


def _record(
    call: Call, client: Client, container_id: str, spec: Spec, **fields: Any
) -> containers_v1.Container:
    runtime = call.flags.text("runtime")
    return containers.create(
        client,
        container_id,
        spec_opts.encode(spec),
        runtime=runtime,
        options=runtime_options(call, runtime),
        snapshot_key=container_id if fields.get("snapshotter") else "",
        sandbox=call.flags.text("sandbox"),
        **fields,
    )


def runtime_options(call: Call, runtime: str) -> Message | None:
    """Options for runc's shim, a configuration path for another one, or nothing."""
    flags = call.flags
    special = flags.text("runc-binary") or flags.on("runc-systemd-cgroup") or flags.text("runc-root")
    if runtime in {"io.containerd.runc.v2", "io.containerd.pyrunc.v2"}:
        from pycontainerd.lib.api.light import runc_v1

        if flags.on("runc-systemd-cgroup") and not (flags.flag("cgroup") and flags.text("cgroup")):
            raise InvalidArgument(
                'option --runc-systemd-cgroup requires --cgroup to be set, e.g. "machine.slice:foo:deadbeef"'
            )
        return runc_v1.Options(
            binary_name=flags.text("runc-binary"),
            root=flags.text("runc-root"),
            systemd_cgroup=flags.on("runc-systemd-cgroup"),
        )
    if special:
        raise InvalidArgument(
            'specifying runc-binary and runc-systemd-cgroup is only supported for "io.containerd.runc.v2" runtime'
        )
    if flags.text("runtime-config-path"):
        from pycontainerd.lib.api.light import runtimeoptions_v1

        return runtimeoptions_v1.Options(config_path=flags.text("runtime-config-path"))
    return None
