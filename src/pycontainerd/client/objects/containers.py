"""Containers: made from an image, started, looked up and deleted."""

from __future__ import annotations

import contextlib
import os

from pycontainerd.client import containers, image_spec, leases, snapshots, spec_opts, tasks, unpack
from pycontainerd.client import images as image_records
from pycontainerd.client.layer_files import SnapshotFiles
from pycontainerd.client.objects.processes import Task, start_task
from pycontainerd.lib import digest as digests
from pycontainerd.lib import errdefs, platforms

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Final, Self

    from pycontainerd.client.client import Client
    from pycontainerd.client.objects.images import Image, Images
    from pycontainerd.client.spec_opts import Spec
    from pycontainerd.lib.api.light import containers_v1, types
    from pycontainerd.lib.oci.image import ImageConfig

RUNTIME: Final = "io.containerd.runc.v2"
_HOST_FILES: Final = ("/etc/hosts", "/etc/resolv.conf")


class Container:
    """A container's record. A context manager: leaving it deletes the container, with its task and its snapshot."""

    def __init__(self, client: Client, record: containers_v1.Container) -> None:
        self._client = client
        self._record = record

    def __repr__(self) -> str:
        return f"Container({self.id!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.delete(force=True)

    @property
    def id(self) -> str:
        """Its id."""
        return self._record.id

    @property
    def image(self) -> str:
        """The name of the image it was made from."""
        return self._record.image

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self._record.labels)

    @property
    def spec(self) -> dict[str, Any]:
        """Its runtime-spec document, a copy."""
        return containers.spec_of(self._record)

    def start(self, *, pipes: bool = True, log: str = "") -> Task:
        """Starts its process. Its streams are the task's files; /dev/null without `pipes`, or a file (or log URI)."""
        rootfs = containers.rootfs_of(self._client, self._record)
        return start_task(self._client, self.id, rootfs, self.spec, pipes=pipes, log=log)

    def task(self) -> Task:
        """The task that runs in it, without its streams; NotFound when there is none."""
        return Task(tasks.load(self._client, self.id), None, self.spec, start=False)

    def set_labels(self, labels: Mapping[str, str]) -> None:
        """Sets single labels; an empty value removes one."""
        containers.set_labels(self._client, self.id, labels)
        self._record = containers.get(self._client, self.id)

    def delete(self, *, force: bool = False) -> None:
        """Removes it and its snapshot. FailedPrecondition while it has a task, which `force` kills and removes first."""
        try:
            task = self.task()
        except errdefs.NotFound:
            pass
        else:
            if not force:
                raise errdefs.FailedPrecondition(
                    f"container {self.id} has a task ({task.status})",
                    hint="remove the task first, or use force=True",
                )
            task.remove()
        with contextlib.suppress(errdefs.NotFound) if force else contextlib.nullcontext():
            containers.delete(self._client, self.id)


class Containers:
    """The containers of the namespace."""

    def __init__(self, client: Client, images: Images) -> None:
        self._client = client
        self._images = images

    def list(self, *filters: str) -> list[Container]:
        """All of them, or those that any of the filters holds for (`labels.app==web`)."""
        return [Container(self._client, record) for record in containers.walk(self._client, filters)]

    def get(self, id: str) -> Container:  # noqa: A002 -- the API's word
        """One by its id; NotFound."""
        return Container(self._client, containers.get(self._client, id))

    def create(
        self,
        image: Image | str,
        args: Sequence[str] = (),
        *,
        id: str = "",  # noqa: A002 -- the API's word
        env: Sequence[str] = (),
        cwd: str = "",
        user: str = "",
        hostname: str = "",
        mounts: Sequence[Mapping[str, Any]] = (),
        labels: Mapping[str, str] | None = None,
        terminal: bool = False,
        read_only: bool = False,
        host_network: bool = False,
        snapshotter: str = snapshots.DEFAULT,
        runtime: str = RUNTIME,
        change: Callable[[Spec], Spec] | None = None,
    ) -> Container:
        """A container of an image, not yet running; AlreadyExists for an id in use, NotFound for an image that isn't here.

        `args` replace the image's command; `env` are `NAME=VALUE`; `mounts` are those of runtime-spec. `change` gets the
        whole Spec last, for what has no argument: the functions of `client.spec_opts`, or any of its own.
        """
        found = self._images.get(image) if isinstance(image, str) else image
        container_id = id or f"c-{os.urandom(6).hex()}"
        matcher = platforms.default_matcher()
        with leases.held(self._client):
            _, manifest = image_records.manifest_for(self._client, found.target, matcher)
            config = image_records.config_of(self._client, manifest)
            rootfs = _prepare(self._client, container_id, found, config, snapshotter, matcher)
            try:
                spec = _image_spec(self._client.namespace, container_id, config, rootfs, user)
                spec = _with_options(spec, args, env, cwd, hostname, mounts)
                spec = _with_switches(spec, terminal=terminal, read_only=read_only, host_network=host_network)
                record = containers.create(
                    self._client,
                    container_id,
                    spec_opts.encode(spec if change is None else change(spec)),
                    runtime=runtime,
                    image=found.name,
                    labels={
                        tasks.STOP_SIGNAL_LABEL: config.stop_signal or "SIGTERM",
                        **(labels or {}),
                    },
                    snapshotter=snapshotter,
                    snapshot_key=container_id,
                )
            except BaseException:
                with contextlib.suppress(errdefs.NotFound):
                    snapshots.remove(self._client, snapshotter, container_id)
                raise
        return Container(self._client, record)


def _prepare(
    client: Client,
    key: str,
    image: Image,
    config: ImageConfig,
    snapshotter: str,
    matcher: platforms.Matcher,
) -> list[types.Mount]:
    """The container's snapshot; an image that isn't unpacked yet is unpacked first."""
    unpack.unpack(client, image.target, snapshotter, matcher)
    parent = str(digests.chain_id(config.diff_ids)) if config.diff_ids else ""
    return snapshots.prepare(client, snapshotter, key, parent, {})


def _image_spec(
    namespace: str, container_id: str, config: ImageConfig, rootfs: Sequence[types.Mount], user: str
) -> Spec:
    spec = spec_opts.with_default_devices(spec_opts.default_spec(namespace, container_id))
    with SnapshotFiles(rootfs) as files:
        return image_spec.with_image(spec, config, files.read, user=user)


def _with_options(
    spec: Spec,
    args: Sequence[str],
    env: Sequence[str],
    cwd: str,
    hostname: str,
    mounts: Sequence[Mapping[str, Any]],
) -> Spec:
    spec = spec_opts.with_mounts(spec_opts.with_env(spec, env), mounts)
    if args:
        spec = spec_opts.with_args(spec, args)
    if cwd:
        spec = spec_opts.with_process(spec, cwd=cwd)
    return {**spec, "hostname": hostname} if hostname else spec


def _with_switches(spec: Spec, *, terminal: bool, read_only: bool, host_network: bool) -> Spec:
    if terminal:
        spec = spec_opts.with_terminal(spec)
    if read_only:
        spec = spec_opts.with_root(spec, readonly=True)
    if host_network:
        spec = spec_opts.without_namespace(spec, "network")
        binds = [spec_opts.mount(path, "bind", path, ["rbind", "ro"]) for path in _HOST_FILES]
        spec = spec_opts.with_mounts(spec, binds)
    return spec
