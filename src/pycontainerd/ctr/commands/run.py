"""`ctr run`: make a container, run it in the foreground or leave it running, and clean up."""

from __future__ import annotations

from pycontainerd.ctr import text
from pycontainerd.ctr.command import Command
from pycontainerd.ctr.container_flags import RUN_FLAGS
from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.client.client import Client
    from pycontainerd.client.tasks import Process
    from pycontainerd.ctr.attachment import Stdio
    from pycontainerd.ctr.cni import Attachment
    from pycontainerd.ctr.command import Call
    from pycontainerd.ctr.make_container import Made
    from pycontainerd.lib.api.light import containers_v1, types

_SIGKILL: Final = 9  # the signal module costs 3 ms: it makes enums
# What making a container needs, one step of the trace each.
_MODULES: Final = (
    "lib.platforms",
    "client.client",
    "lib.oci.image",
    "client.content",
    "client.images",
    "client.containers",
    "client.spec_opts",
    "ctr.make_container",
)


def _run(call: Call) -> int:
    flags = call.flags
    if flags.on("rm") and flags.on("detach"):
        raise InvalidArgument("flags --detach and --rm cannot be specified together")
    if flags.is_set("dump-config") and not flags.text("dump-config"):
        raise InvalidArgument("file name is required with --dump-config")
    if flags.on("trace"):
        from pycontainerd.ctr import trace_view

        return trace_view.traced(call, _run_container)
    return _run_container(call)


def _run_container(call: Call) -> int:
    for module in _MODULES:
        with trace.span("load code", module=module):
            __import__(f"pycontainerd.{module}")
    from pycontainerd.ctr import make_container, session

    with session.connect(call) as client:
        with trace.span("create container"):
            made = make_container.make(call, client)
        try:
            if call.flags.text("dump-config"):
                _dump(made, call.flags.text("dump-config"))
            return _run_task(call, client, made)
        finally:
            if call.flags.on("rm"):
                _remove(client, made.record)


def _dump(made: Made, path: str) -> None:
    """The spec as the daemon was given it, into a file."""
    from pycontainerd.client import containers
    from pycontainerd.ctr import display

    text_of_spec = display.go_json(containers.spec_of(made.record), 2)
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text_of_spec)


def _remove(client: Client, record: containers_v1.Container) -> None:
    from pycontainerd.client import containers

    try:
        containers.remove(client, record)
    except errdefs.ContainerdError as error:
        text.complain("failed to clean up container", error=error)


def _run_task(call: Call, client: Client, made: Made) -> int:
    with trace.span("load code", module="ctr.attachment"):
        from pycontainerd.ctr import attachment

    detach = call.flags.on("detach")
    record = made.record
    network = _network(call, client, record.id)
    with trace.span("make fifos"):
        terminal = bool(made.spec.get("process", {}).get("terminal"))
        stdio = attachment.make_stdio(client, call.flags, record.id, terminal=terminal)
    keep = False
    try:
        process = create_task(call, client, record, made.rootfs, stdio)
        try:
            if call.flags.text("pid-file"):
                attachment.write_pid_file(call.flags.text("pid-file"), process.pid)
            if network is not None:
                network.add(process.pid)
            if detach:
                process.start()
                keep = True
                return 0
            return attachment.follow(client, process, stdio).code
        finally:
            if not keep:
                if network is not None:
                    network.take_down()
                end_task(client, process)
            if network is not None:
                network.close()
    finally:
        stdio.close(keep=keep)


def _network(call: Call, client: Client, container_id: str) -> Attachment | None:
    if not call.flags.on("cni"):
        return None
    from pycontainerd.ctr import cni, cni_config

    return cni.Attachment(cni_config.load(), client.namespace, container_id)


def create_task(
    call: Call, client: Client, record: containers_v1.Container, rootfs: list[types.Mount], stdio: Stdio
) -> Process:
    """The task of a container, created and not started, with --no-pivot merged into the container's own options."""
    from pycontainerd.client import tasks
    from pycontainerd.lib.api.light import runc_v1

    options = None
    if call.flags.on("no-pivot"):
        own = runc_v1.Options.FromString(record.runtime.options.value)
        options = runc_v1.Options(
            no_pivot_root=True,
            binary_name=own.binary_name,
            root=own.root,
            systemd_cgroup=own.systemd_cgroup,
        )
    with trace.span("create task"):
        return tasks.create(client, record.id, rootfs, stdio.streams, options)


def end_task(client: Client, process: Process) -> None:
    """Deletes the task, whatever happened to it: one that still runs is killed first."""
    try:
        process.delete()
    except errdefs.NotFound:
        return
    except (errdefs.FailedPrecondition, errdefs.Unknown):  # Unknown is how a stock shim says that it runs
        exited = process.start_wait()
        try:
            process.kill(_SIGKILL)
        except errdefs.NotFound:
            pass  # it ended by itself
        client.wait(exited)
        process.delete()


COMMAND = Command(
    "run",
    "run a container",
    _run,
    arguments="[flags] Image|RootFS ID [COMMAND] [ARG...]",
    flags=RUN_FLAGS,
    anywhere=False,
    description=(
        "the image is one that was pulled, ID a new name; without a command the image's own is run\n"
        "flags stand before the image; ctr ends with the container, with its status\n"
        "ctr run --rm -t docker.io/library/busybox:latest demo sh\n"
        "ctr run -d --log-uri file:///tmp/web.log docker.io/library/busybox:latest web sleep 1000"
    ),
)
