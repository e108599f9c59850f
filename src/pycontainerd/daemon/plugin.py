"""Explicit wiring: every plugin of the daemon, what it needs, and how it is started.

PLUGINS is the whole truth: nothing registers itself by being imported. A plugin that fails is shown with its error by
`ctr plugins ls`; what needs it fails too, and only `required_plugins` make the daemon give up.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon import config as settings
from pycontainerd.daemon.core import files
from pycontainerd.daemon.core.events import Exchange
from pycontainerd.daemon.core.streams import StreamManager
from pycontainerd.daemon.plugins import gc_scheduler, overlay_checks
from pycontainerd.daemon.plugins.content_local import LocalContentStore
from pycontainerd.daemon.plugins.diff_walking import WalkingDiffer
from pycontainerd.daemon.plugins.metadata_sqlite.activations import SqliteActivations
from pycontainerd.daemon.plugins.metadata_sqlite.containers import SqliteContainerStore
from pycontainerd.daemon.plugins.metadata_sqlite.content import SqliteContentStore
from pycontainerd.daemon.plugins.metadata_sqlite.database import Database
from pycontainerd.daemon.plugins.metadata_sqlite.gc import Collector
from pycontainerd.daemon.plugins.metadata_sqlite.images import SqliteImageStore
from pycontainerd.daemon.plugins.metadata_sqlite.leases import SqliteLeaseManager
from pycontainerd.daemon.plugins.metadata_sqlite.namespaces import SqliteNamespaceStore
from pycontainerd.daemon.plugins.metadata_sqlite.sandboxes import SqliteSandboxStore
from pycontainerd.daemon.plugins.metadata_sqlite.snapshots import SqliteSnapshots
from pycontainerd.daemon.plugins.mount_manager.manager import SqliteMountManager
from pycontainerd.daemon.plugins.runtime_v1 import linux
from pycontainerd.daemon.plugins.runtime_v2.exits import ExitReports
from pycontainerd.daemon.plugins.runtime_v2.forkserver import ForkserverStarter
from pycontainerd.daemon.plugins.runtime_v2.info import RuntimeInformer
from pycontainerd.daemon.plugins.runtime_v2.manager import ShimManager
from pycontainerd.daemon.plugins.runtime_v2.rootfs import RootfsMounts
from pycontainerd.daemon.plugins.runtime_v2.runtime import Settings
from pycontainerd.daemon.plugins.runtime_v2.sandboxes import ShimSandboxController
from pycontainerd.daemon.plugins.runtime_v2.starter import ExecStarter, ShimStarter
from pycontainerd.daemon.plugins.snapshot_native import NativeSnapshotter
from pycontainerd.daemon.plugins.snapshot_overlay import Options, OverlaySnapshotter
from pycontainerd.daemon.registration import Registration
from pycontainerd.daemon.restart import RestartMonitor
from pycontainerd.daemon.services import wire
from pycontainerd.daemon.services.containers import ContainersService
from pycontainerd.daemon.services.content import ContentService
from pycontainerd.daemon.services.diff import DiffService
from pycontainerd.daemon.services.events import EventsService, ForwardingService
from pycontainerd.daemon.services.health import HealthService
from pycontainerd.daemon.services.images import ImagesService
from pycontainerd.daemon.services.introspection import IntrospectionService
from pycontainerd.daemon.services.leases import LeasesService
from pycontainerd.daemon.services.mounts import MountsService
from pycontainerd.daemon.services.namespaces import NamespacesService
from pycontainerd.daemon.services.sandbox_controllers import SandboxControllerService
from pycontainerd.daemon.services.sandboxes import SandboxStoreService
from pycontainerd.daemon.services.snapshots import SnapshotsService
from pycontainerd.daemon.services.streaming import StreamingService
from pycontainerd.daemon.services.tasks import TasksService
from pycontainerd.daemon.services.transfer import TransferService
from pycontainerd.daemon.services.version import VersionService
from pycontainerd.daemon.transfer import LazyTransferrer
from pycontainerd.lib.api.full import (
    containers_v1,
    content_v1,
    diff_v1,
    events,
    events_ttrpc_v1,
    events_v1,
    health_v1,
    images_v1,
    introspection_v1,
    leases_v1,
    mounts_v1,
    namespaces_v1,
    sandbox_v1,
    snapshots_v1,
    streaming_v1,
    tasks_v1,
    transfer_v1,
    version_v1,
)
from pycontainerd.lib.errdefs import FailedPrecondition, InvalidArgument
from pycontainerd.version import REVISION, VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainerd.daemon.config import Config
    from pycontainerd.daemon.core.gc import Node
    from pycontainerd.daemon.registration import Context
    from pycontainerd.lib.api.codec import Service


def registrations(config: Config) -> tuple[Registration, ...]:
    """PLUGINS, and what the configuration adds to them."""
    if not config.proxy_plugins:
        return PLUGINS
    from pycontainerd.daemon.proxies import wiring

    return wiring.insert(PLUGINS, config.proxy_plugins)


CONTENT: Final = "io.containerd.content.v1.content"
METADATA: Final = "io.containerd.metadata.v1.sqlite"
EVENTS: Final = "io.containerd.event.v1.exchange"
SCHEDULER: Final = settings.GC
MOUNTS: Final = "io.containerd.mount-manager.v1.sqlite"
NAMESPACED_CONTENT: Final = "io.containerd.service.v1.content-service"
CONTAINER_STORE: Final = "io.containerd.service.v1.containers-service"
IMAGE_STORE: Final = "io.containerd.service.v1.images-service"
LEASE_STORE: Final = "io.containerd.service.v1.leases-service"
NAMESPACE_STORE: Final = "io.containerd.service.v1.namespaces-service"
TASKS: Final = settings.RUNTIME
LINUX: Final = settings.LINUX_RUNTIME
SANDBOXES: Final = "io.containerd.sandbox.controller.v1.shim"
SANDBOX_STORE: Final = "io.containerd.sandbox.store.v1.local"
STREAMS: Final = "io.containerd.streaming.v1.manager"
TRANSFER: Final = settings.TRANSFER
RESTART: Final = settings.RESTART
OPT: Final = settings.OPT
DIFFER: Final = "io.containerd.differ.v1.walking"


def _content(context: Context) -> LocalContentStore:
    return LocalContentStore(context.root(CONTENT))


def _metadata(context: Context) -> Database:
    root = context.root(METADATA)
    files.make_dir(root, 0o711)
    database = Database(f"{root}/meta.db")
    if not database.was_clean:
        context.log.warning("metadata was not closed cleanly last time; quick check passed", path=root)
    return database


def _folder(context: Context, uri: str) -> str:
    """Where a snapshotter keeps its snapshots."""
    return context.settings(uri)["root_path"] or context.root(uri)


def _overlayfs(context: Context) -> SqliteSnapshots:
    settings_of = context.settings(settings.OVERLAYFS)
    root = _folder(context, settings.OVERLAYFS)
    overlay_checks.require_supported(root)
    database = context.get(METADATA)
    options = Options(**{key: value for key, value in settings_of.items() if key != "root_path"})
    return SqliteSnapshots(database, OverlaySnapshotter(root, database, options))


def _native(context: Context) -> SqliteSnapshots:
    database = context.get(METADATA)
    return SqliteSnapshots(database, NativeSnapshotter(_folder(context, settings.NATIVE), database))


def _opt_folder(context: Context) -> str:
    return context.settings(OPT)["path"] or f"{context.config.root}/opt"


def _opt(context: Context) -> str:
    """The folder that `ctr install` fills: its programs, shims among them, are found before the machine's."""
    path = _opt_folder(context)
    for name, variable in (("bin", "PATH"), ("lib", "LD_LIBRARY_PATH")):
        folder = f"{path}/{name}"
        files.make_dir(folder, 0o711)
        # Unlike containerd: an empty folder of libraries would cost every program that is started a search.
        if name == "bin" or os.listdir(folder):
            os.environ[variable] = ":".join(filter(None, (folder, os.environ.get(variable, ""))))
    return path


def _exchange(context: Context) -> Exchange:
    return Exchange(wire.read_event_field, context.log.debug)


def _namespaced_content(context: Context) -> SqliteContentStore:
    policy = context.settings(settings.METADATA)["content_sharing_policy"]
    context.log.info("metadata content store policy set", policy=policy)
    if policy not in ("shared", "isolated"):
        raise FailedPrecondition(f"unknown content_sharing_policy {policy}: failed precondition")
    return SqliteContentStore(context.get(METADATA), context.get(CONTENT), shared=policy == "shared")


def _mounts(context: Context) -> SqliteMountManager:
    targets = f"{context.config.state}/{MOUNTS}/t"
    store = SqliteActivations(context.get(METADATA))
    manager = SqliteMountManager(targets, context.config.root, store, context.log)
    manager.sync()
    return manager


def _gc(context: Context) -> gc_scheduler.Scheduler:
    exchange: Exchange = context.get(EVENTS)
    mounts: SqliteMountManager | None = context.instances.get(MOUNTS)

    def on_removed(nodes: list[Node]) -> None:
        for node in nodes:
            message = _removal_event(node)
            if message is not None:
                exchange.publish(node.namespace, message[0], wire.event(message[1]))

    collector = Collector(
        context.get(METADATA),
        context.get(NAMESPACED_CONTENT),
        context.get(CONTENT),
        tuple(context.snapshotters().values()),
        on_removed,
        mounts.sweep if mounts is not None else None,
    )

    async def collect() -> None:
        await context.pools.run("gc", collector.collect)

    options = context.settings(SCHEDULER)
    scheduler = gc_scheduler.Scheduler(
        collect,
        gc_scheduler.Settings(
            pause_threshold=options["pause_threshold"],
            deletion_threshold=options["deletion_threshold"],
            mutation_threshold=options["mutation_threshold"],
            schedule_delay_s=settings.parse_duration(options["schedule_delay"]),
            startup_delay_s=settings.parse_duration(options["startup_delay"]),
        ),
        lambda e: context.log.error("garbage collection failed", error=str(e)),
    )
    context.get(METADATA).on_commit(scheduler.note)
    return scheduler


def _gc_exports(context: Context) -> Mapping[str, str]:
    names = ("PauseThreshold", "DeletionThreshold", "MutationThreshold", "ScheduleDelay")
    keys = ("pause_threshold", "deletion_threshold", "mutation_threshold", "schedule_delay")
    return {name: str(context.settings(SCHEDULER)[key]) for name, key in zip(names, keys, strict=True)}


def _removal_event(node: Node) -> tuple[str, object] | None:
    """What is published when garbage collection takes something."""
    match node.resource.value:
        case "content":
            return "/content/delete", events.ContentDelete(digest=node.key)
        case "image":
            return "/images/delete", images_v1.ImageDelete(name=node.key)
        case "snapshot":
            snapshotter, _, key = node.key.partition("/")
            return "/snapshot/remove", events.SnapshotRemove(key=key, snapshotter=snapshotter)
        case _:
            return None


def _server_uuid(context: Context) -> str:
    """Made once, kept for the life of the root folder."""
    root = context.root("io.containerd.grpc.v1.introspection")
    path = f"{root}/uuid"
    files.make_dir(root, 0o700)
    if not os.path.exists(path):
        files.write_atomic(path, str(uuid.uuid4()).encode())
    return str(uuid.UUID(files.read_limited(path, 64).decode()))


def _starter(context: Context, wanted: str) -> ShimStarter:
    """By exec, or from the forkserver, which itself falls back to exec."""
    if wanted == "exec":
        return ExecStarter(context.pools)
    if wanted not in ("auto", "forkserver"):
        raise InvalidArgument(f"starter must be auto, forkserver or exec: {wanted!r}")
    return ForkserverStarter(context.pools, context.log)


def _tasks(context: Context) -> ShimManager:
    config = context.config
    exchange: Exchange = context.get(EVENTS)
    options = context.settings(settings.SHIM_MANAGER)

    state = f"{config.state}/{TASKS}"
    exits = ExitReports(
        [state, f"{config.state}/{LINUX}"], exchange.publish, lambda: exchange.was_listened_to
    )
    exchange.add_gate(exits.admit)
    manager = ShimManager(
        Settings(
            state=state,
            root=context.root(TASKS),
            address=config.grpc.address,
            ttrpc_address=config.ttrpc_address,
            publish_binary=context.launcher,
            debug=config.debug.level in ("debug", "trace"),
            env=options["env"],
            runtime_paths=options["runtime_paths"],
            load_timeout_s=config.timeouts_s["io.containerd.timeout.shim.load"],
            cleanup_timeout_s=config.timeouts_s["io.containerd.timeout.shim.cleanup"],
            shutdown_timeout_s=config.timeouts_s["io.containerd.timeout.shim.shutdown"],
            log_fd=context.log.fd,
        ),
        _starter(context, options["starter"]),
        context.get(CONTAINER_STORE),
        context.pools,
        context.log,
        exits,
    )
    mounts = context.instances.get(MOUNTS)
    if mounts is not None:
        informer = RuntimeInformer(manager.settings, context.pools)
        manager.rootfs_mounts = RootfsMounts(mounts, informer, context.pools, context.log)
    return manager


def _linux(context: Context) -> linux.LinuxRuntime:
    """Tasks of runtime v1 are the task manager's too."""
    tasks: ShimManager = context.get(TASKS)
    exchange: Exchange = context.get(EVENTS)
    folders = replace(tasks.settings, state=f"{context.config.state}/{LINUX}", root=context.root(LINUX))
    for path in (folders.root, folders.state):
        files.make_dir(path, 0o711)
    runtime = linux.LinuxRuntime(
        folders,
        context.settings(LINUX),
        context.get(CONTAINER_STORE),
        context.pools,
        exchange.publish,
        tasks.exits,
    )
    tasks.serve(linux.NAME, runtime)
    return runtime


def _sandboxes(context: Context) -> ShimSandboxController:
    """Sandboxes have shims of their own, and tell the task manager where those serve tasks."""
    tasks: ShimManager = context.get(TASKS)
    settings_here = replace(
        tasks.settings, state=f"{context.config.state}/{SANDBOXES}", root=context.root(SANDBOXES)
    )
    controller = ShimSandboxController(settings_here, tasks.starter, context.pools, context.log)
    tasks.serve_sandboxes(controller.bootstrap)
    return controller


def _own_socket(context: Context) -> tuple[str, str]:
    """Where and how the daemon is a client of itself."""
    config = context.config
    beside = config.ttrpc_address == f"{config.grpc.address}.ttrpc"
    return config.grpc.address, "ttrpc" if beside else "grpc"


def _transfer(context: Context) -> LazyTransferrer:
    return LazyTransferrer(*_own_socket(context), context.settings(TRANSFER), context.log)


def _restart(context: Context) -> RestartMonitor:
    interval_s = settings.parse_duration(context.settings(RESTART)["interval"])
    return RestartMonitor(
        context.get(CONTAINER_STORE), _own_socket(context), interval_s, context.pools, context.log
    )


def _differ(context: Context) -> WalkingDiffer:
    differ = WalkingDiffer(context.get(NAMESPACED_CONTENT))
    context.on_stop.append(differ.close)
    return differ


def _introspection(context: Context) -> tuple[Service, object]:
    informers = {}
    if TASKS in context.instances:
        tasks: ShimManager = context.get(TASKS)
        name = (TASKS.rpartition(".")[0], TASKS.rpartition(".")[2])
        informers[name] = RuntimeInformer(tasks.settings, context.pools)
    service = IntrospectionService(context.infos, _server_uuid(context), informers, context.pools)
    return introspection_v1.INTROSPECTION, service


PLUGINS: Final = (
    Registration(OPT, _opt, exports=lambda c: {"path": _opt_folder(c)}),
    Registration(CONTENT, _content, exports=lambda c: {"root": c.root(CONTENT)}),
    Registration(
        METADATA,
        _metadata,
        ("io.containerd.content.v1", "io.containerd.snapshotter.v1"),
        exports=lambda c: {
            "path": f"{c.root(METADATA)}/meta.db",
            "policy": c.settings(settings.METADATA)["content_sharing_policy"],
        },
    ),
    Registration(
        settings.NATIVE,
        _native,
        has_platform=True,
        exports=lambda c: {"root": _folder(c, settings.NATIVE)},
    ),
    Registration(
        settings.OVERLAYFS,
        _overlayfs,
        has_platform=True,
        capabilities=lambda c: c.get(settings.OVERLAYFS).capabilities,
        exports=lambda c: {"root": _folder(c, settings.OVERLAYFS)},
    ),
    Registration(EVENTS, _exchange),
    Registration(NAMESPACED_CONTENT, _namespaced_content, ("io.containerd.metadata.v1",)),
    Registration(MOUNTS, _mounts, ("io.containerd.metadata.v1",)),
    Registration(SCHEDULER, _gc, ("io.containerd.metadata.v1",), exports=_gc_exports),
    Registration(
        CONTAINER_STORE, lambda c: SqliteContainerStore(c.get(METADATA)), ("io.containerd.metadata.v1",)
    ),
    Registration(IMAGE_STORE, lambda c: SqliteImageStore(c.get(METADATA)), ("io.containerd.metadata.v1",)),
    Registration(LEASE_STORE, lambda c: SqliteLeaseManager(c.get(METADATA)), ("io.containerd.metadata.v1",)),
    Registration(
        NAMESPACE_STORE, lambda c: SqliteNamespaceStore(c.get(METADATA)), ("io.containerd.metadata.v1",)
    ),
    Registration(
        TASKS,
        _tasks,
        ("io.containerd.metadata.v1", "io.containerd.event.v1"),
        has_platform=True,
        exports=lambda _: {"log-uri-schemes": "fifo,binary,binary-v2,file"},
    ),
    Registration(
        DIFFER,
        _differ,
        ("io.containerd.metadata.v1",),
        has_platform=True,
    ),
    Registration("io.containerd.grpc.v1.introspection", _introspection),
    Registration(
        RESTART,
        _restart,
        ("io.containerd.event.v1", "io.containerd.service.v1"),
        capabilities=lambda _: lambda: RestartMonitor.capabilities,
    ),
    Registration(
        "io.containerd.grpc.v1.containers",
        lambda c: (
            containers_v1.CONTAINERS,
            ContainersService(c.get(CONTAINER_STORE), c.pools, c.get(EVENTS)),
        ),
    ),
    Registration(
        "io.containerd.grpc.v1.content",
        lambda c: (content_v1.CONTENT, ContentService(c.get(NAMESPACED_CONTENT), c.pools, c.get(EVENTS))),
    ),
    Registration("io.containerd.grpc.v1.diff", lambda c: (diff_v1.DIFF, DiffService(c.get(DIFFER), c.pools))),
    Registration("io.containerd.grpc.v1.events", lambda c: (events_v1.EVENTS, EventsService(c.get(EVENTS)))),
    Registration(
        "io.containerd.ttrpc.v1.events",
        lambda c: (events_ttrpc_v1.EVENTS, ForwardingService(c.get(EVENTS))),
    ),
    Registration("io.containerd.grpc.v1.healthcheck", lambda _: (health_v1.HEALTH, HealthService())),
    Registration(
        "io.containerd.grpc.v1.images",
        lambda c: (
            images_v1.IMAGES,
            ImagesService(c.get(IMAGE_STORE), c.pools, c.get(EVENTS), c.get(SCHEDULER).collect_and_wait),
        ),
    ),
    Registration(
        "io.containerd.grpc.v1.leases",
        lambda c: (
            leases_v1.LEASES,
            LeasesService(c.get(LEASE_STORE), c.pools, c.get(SCHEDULER).collect_and_wait),
        ),
    ),
    Registration(
        "io.containerd.grpc.v1.mounts", lambda c: (mounts_v1.MOUNTS, MountsService(c.get(MOUNTS), c.pools))
    ),
    Registration(
        "io.containerd.grpc.v1.namespaces",
        lambda c: (
            namespaces_v1.NAMESPACES,
            NamespacesService(c.get(NAMESPACE_STORE), c.pools, c.get(EVENTS)),
        ),
    ),
    Registration(
        "io.containerd.grpc.v1.snapshots",
        lambda c: (snapshots_v1.SNAPSHOTS, SnapshotsService(c.snapshotters(), c.pools, c.get(EVENTS))),
    ),
    Registration(
        SANDBOX_STORE, lambda c: SqliteSandboxStore(c.get(METADATA)), ("io.containerd.metadata.v1",)
    ),
    Registration(
        "io.containerd.grpc.v1.sandboxes",
        lambda c: (sandbox_v1.STORE, SandboxStoreService(c.get(SANDBOX_STORE), c.pools)),
    ),
    Registration(LINUX, _linux, ("io.containerd.runtime.v2",), has_platform=True),
    Registration(SANDBOXES, _sandboxes, ("io.containerd.runtime.v2",)),
    Registration(
        "io.containerd.grpc.v1.sandbox-controllers",
        lambda c: (
            sandbox_v1.CONTROLLER,
            SandboxControllerService(
                {"shim": c.get(SANDBOXES)}, c.get(SANDBOX_STORE), c.pools, c.get(EVENTS)
            ),
        ),
    ),
    Registration(STREAMS, lambda _: StreamManager()),
    Registration(
        "io.containerd.grpc.v1.streaming",
        lambda c: (streaming_v1.STREAMING, StreamingService(c.get(STREAMS))),
    ),
    Registration(TRANSFER, _transfer),
    Registration(
        "io.containerd.grpc.v1.transfer",
        lambda c: (
            transfer_v1.TRANSFER,
            TransferService(c.get(STREAMS), c.get(TRANSFER), c.pools),
        ),
    ),
    Registration(
        "io.containerd.grpc.v1.tasks",
        lambda c: (
            tasks_v1.TASKS,
            TasksService(
                c.get(CONTAINER_STORE),
                c.get(TASKS),
                c.pools,
                c.log.error,
                state_timeout_s=c.config.timeouts_s["io.containerd.timeout.task.state"],
            ),
        ),
    ),
    Registration(
        "io.containerd.grpc.v1.version",
        lambda _: (version_v1.VERSION, VersionService(VERSION, REVISION)),
    ),
)
