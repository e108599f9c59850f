"""`ctr tasks`: start, attach, exec, kill, list, ps, metrics, pause, resume, delete, checkpoint."""

from __future__ import annotations

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command, at
from pycontainerd.ctr.container_flags import DETACH, IO_FLAGS, PID_FILE
from pycontainerd.ctr.flags import BOOL, STRING, Flag
from pycontainerd.lib import errdefs
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pycontainerd.client.client import Client
    from pycontainerd.ctr import cni
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.light import containers_v1


def _require_id(call: Call) -> str:
    if not call.argument(0):
        raise InvalidArgument("container id must be provided")
    return call.argument(0)


def _start(call: Call) -> int:
    from pycontainerd.client import containers
    from pycontainerd.ctr import attachment, session
    from pycontainerd.ctr.commands import run

    container_id = _require_id(call)
    detach = call.flags.on("detach")
    with session.connect(call) as client:
        record = containers.get(client, container_id)
        network = _network(client, record)
        terminal = bool(containers.spec_of(record).get("process", {}).get("terminal"))
        rootfs: list[Any] = containers.rootfs_of(client, record)
        stdio = attachment.make_stdio(client, call.flags, container_id, terminal=terminal)
        keep = False
        try:
            process = run.create_task(call, client, record, rootfs, stdio)
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
                if network is not None and not keep:
                    network.take_down()
                if not keep:
                    run.end_task(client, process)
        finally:
            stdio.close(keep=keep)


def _network(client: Client, record: containers_v1.Container) -> cni.Attachment | None:
    from pycontainerd.ctr import cni, cni_config

    if not cni.is_recorded(record):
        return None
    return cni.Attachment(cni_config.load(), client.namespace, record.id)


def _attach(call: Call) -> int:
    from pycontainerd.client import cio, containers
    from pycontainerd.ctr import attachment, cni, session

    with session.connect(call) as client:
        process = containers.task_of(client, call.argument(0))
        info = process.info()
        streams = cio.Streams(info.stdin, info.stdout, info.stderr, terminal=info.terminal)
        console_fd = attachment.terminal_fd() if info.terminal else -1
        stdio = attachment.Stdio(streams, cio.attach_fifos(streams), console_fd)
        try:
            status = attachment.follow(client, process, stdio, start=False)
        finally:
            stdio.close()
        process.delete()
        cio.remove_streams(streams)
        cni.release(client.namespace, process.container_id)
        return status.code


def _exec(call: Call) -> int:
    from pycontainerd.client import containers, spec_opts, tasks
    from pycontainerd.ctr import attachment, session

    container_id, args = call.argument(0), call.arguments[1:]
    if not container_id:
        raise InvalidArgument("container id must be provided")
    flags = call.flags
    with session.connect(call) as client:
        load = tasks.begin_load(client, container_id)
        record = containers.get(client, container_id)
        load()
        spec = containers.spec_of(record)
        if flags.text("user"):
            spec = _with_user(client, record, spec, flags.text("user"))
        process_spec = dict(spec.get("process", {}))
        process_spec["terminal"] = flags.on("tty")
        process_spec["args"] = args
        if flags.text("cwd"):
            process_spec["cwd"] = flags.text("cwd")
        stdio = attachment.make_stdio(client, flags, flags.text("exec-id"), terminal=flags.on("tty"))
        keep = False
        try:
            process = tasks.exec_process(
                client,
                container_id,
                flags.text("exec-id"),
                spec_opts.encode_process(process_spec),
                stdio.streams,
            )
            if flags.on("detach"):
                process.start()
                keep = True
                return 0
            try:
                return attachment.follow(client, process, stdio).code
            finally:
                _delete_exec(process)
        finally:
            stdio.close(keep=keep)


def _with_user(client: Client, record: Any, spec: dict[str, Any], user: str) -> dict[str, Any]:
    from pycontainerd.client import containers, image_spec
    from pycontainerd.client.layer_files import SnapshotFiles

    mounts = containers.rootfs_of(client, record)
    files = SnapshotFiles(mounts) if mounts else image_spec.open_folder(spec["root"]["path"])
    with files:
        return image_spec.with_user(spec, user, files.read)


def _delete_exec(process: Any) -> None:
    try:
        process.delete()
    except (errdefs.NotFound, errdefs.FailedPrecondition):
        return  # never started, or gone with its container


def _kill(call: Call) -> int:
    from pycontainerd.client import containers, signals, tasks
    from pycontainerd.ctr import session

    container_id = _require_id(call)
    flags = call.flags
    if flags.on("all") and flags.text("exec-id"):
        raise InvalidArgument("specify an exec-id or all; not both")
    wanted = signals.parse(flags.text("signal")) if flags.text("signal") else 0
    with session.connect(call) as client:
        record = containers.get(client, container_id)
        number = wanted or signals.parse(record.labels.get(tasks.STOP_SIGNAL_LABEL) or "SIGTERM")
        task = tasks.load(client, container_id)
        task.exec_id = flags.text("exec-id")
        task.kill(number, everything=flags.on("all"))
    return 0


def _list(call: Call) -> int:
    from pycontainerd.client import tasks
    from pycontainerd.ctr import session
    from pycontainerd.ctr.commands.containers import status_name

    with session.connect(call) as client:
        found = tasks.walk(client)
    if call.flags.on("quiet"):
        display.write("".join(f"{task.id}\n" for task in found))
        return 0
    rows = [{"id": task.id, "pid": task.pid, "status": status_name(task.status)} for task in found]
    display.print_rows(rows, call.flags.text("format"), _table)
    return 0


def _table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [f"{row['id']}\t{row['pid']}\t{row['status']}" for row in rows]
    display.table("TASK\tPID\tSTATUS\t", lines, display.WIDE)


def _ps(call: Call) -> int:
    from pycontainerd.client import containers, tasks
    from pycontainerd.ctr import session

    container_id = _require_id(call)
    with session.connect(call) as client:
        containers.task_of(client, container_id)
        found = tasks.pids(client, container_id)
    rows = [{"pid": process.pid, "exec_id": _exec_id(process)} for process in found]
    display.print_rows(rows, call.flags.text("format"), _ps_table)
    return 0


def _ps_table(rows: Sequence[dict[str, Any]]) -> None:
    """INFO is Go's %+v of ProcessDetails: `exec_id:"x"`."""
    from pycontainerd.lib.identifiers import quoted

    lines = []
    for row in rows:
        exec_id = row["exec_id"]
        info = "-" if exec_id is None else f"exec_id:{quoted(exec_id)} " if exec_id else ""
        lines.append(f"{row['pid']}\t{info}")
    display.table("PID\tINFO", lines, display.VALUES)


def _exec_id(process: Any) -> str | None:
    """Of an exec, its id; None where the shim says nothing of the process."""
    from pycontainerd.lib.api import anys
    from pycontainerd.lib.api.light import runc_v1

    if not process.HasField("info") or not anys.is_type(process.info, runc_v1.ProcessDetails):
        return None
    exec_id: str = runc_v1.ProcessDetails.FromString(process.info.value).exec_id
    return exec_id


def _metrics(call: Call) -> int:
    from pycontainerd.client import containers, tasks
    from pycontainerd.ctr import metrics_view, session

    container_id = _require_id(call)
    with session.connect(call) as client:
        containers.task_of(client, container_id)
        metric = tasks.metrics(client, container_id)
    metrics_view.show(metric, call.flags.text("format"))
    return 0


def _pause(call: Call) -> int:
    return _with_task(call, "pause")


def _resume(call: Call) -> int:
    return _with_task(call, "resume")


def _with_task(call: Call, verb: str) -> int:
    from pycontainerd.client import containers, tasks
    from pycontainerd.ctr import session

    container_id = call.argument(0)
    with session.connect(call) as client:
        containers.task_of(client, container_id)
        change: Callable[[Client, str], None] = getattr(tasks, verb)
        change(client, container_id)
    return 0


def _delete(call: Call) -> int:
    from pycontainerd.client import containers
    from pycontainerd.ctr import session

    exec_id = call.flags.text("exec-id")
    failure: ContainerdError | None = None
    code = 0
    with session.connect(call) as client:
        if exec_id:
            task = containers.task_of(client, call.argument(0))
            task.exec_id = exec_id
            return _delete_task(client, task, force=call.flags.on("force"))
        for container_id in call.arguments:
            try:
                task = containers.task_of(client, container_id)
            except ContainerdError as error:
                text.complain(f"failed to load task from {container_id}", error=error)
                failure = failure or error
                continue
            try:
                code = _delete_task(client, task, force=call.flags.on("force"))
            except ContainerdError as error:
                text.complain(f"unable to delete {container_id}", error=error)
                failure = failure or error
                continue
            if code:
                text.warn(f"task {container_id} exit with non-zero exit code {code}")
    if failure is not None:
        raise failure
    return 0


def _delete_task(client: Client, task: Any, *, force: bool) -> int:
    import signal

    from pycontainerd.client import cio
    from pycontainerd.ctr import cni
    from pycontainerd.lib.api.light import task_types

    info = task.info()
    if force and info.status != task_types.Status.STOPPED:
        exited = task.start_wait()
        try:
            task.kill(signal.SIGKILL, everything=not task.exec_id)
        except (errdefs.NotFound, errdefs.FailedPrecondition):
            force = False  # it ended by itself
        client.wait(exited)
    elif info.status not in {task_types.Status.STOPPED, task_types.Status.CREATED}:
        from pycontainerd.ctr.commands.containers import status_name

        raise errdefs.FailedPrecondition(
            f"task must be stopped before deletion: {status_name(info.status).lower()}: failed precondition",
            hint="kill it first, or add --force",
        )
    code: int = task.delete().code
    cio.remove_streams(cio.Streams(info.stdin, info.stdout, info.stderr))
    if not task.exec_id:
        cni.release(client.namespace, task.container_id)
    return code


COMMANDS = (
    Command(
        "checkpoint",
        "dump the processes of a container, as criu does",
        at("checkpoints", "task"),
        arguments="[flags] CONTAINER",
        flags=(
            Flag("exit", BOOL, "end them then"),
            Flag("image-path", STRING, "folder to dump to, instead of the content store"),
            Flag("work-path", STRING, "folder for criu's own files and logs"),
        ),
        takes_container=True,
        description="needs criu on the daemon's side, and a shim that uses it",
    ),
    Command(
        "attach",
        "attach to the stdio of a running container",
        _attach,
        arguments="CONTAINER",
        takes_container=True,
        description="signals are passed on; ctr ends with the container, with its status",
    ),
    Command(
        "delete, del, remove, rm",
        "remove stopped tasks",
        _delete,
        arguments="CONTAINER [CONTAINER, ...]",
        flags=(
            Flag("force, f", BOOL, "kill the task first"),
            Flag("exec-id", STRING, "remove this exec of the task instead"),
        ),
        description="the container's record stays: container rm removes that",
    ),
    Command(
        "exec",
        "run a further process in a container",
        _exec,
        arguments="[flags] CONTAINER CMD [ARG...]",
        takes_container=True,
        flags=(
            Flag("cwd", STRING, "working directory of the process"),
            Flag("tty, t", BOOL, "give the process a terminal"),
            Flag("detach, d", BOOL, "leave the process running"),
            Flag("exec-id", STRING, "id of the process"),
            Flag("fifo-dir", STRING, "folder for the FIFOs of stdio"),
            Flag("log-uri", STRING, "where the shim writes output: file:///path or binary:///path"),
            Flag("user", STRING, "user of the process: name or uid, [:group or gid]"),
        ),
        required=("exec-id",),
        anywhere=False,
        description=(
            "every process needs an id of its own, and ctr ends with its status\n"
            "ctr task exec --exec-id sh1 -t web sh"
        ),
    ),
    Command(
        "list, ls",
        "list tasks",
        _list,
        arguments="[flags]",
        flags=(Flag("quiet, q", BOOL, "print ids only"), text.FORMAT_FLAG),
        description="containers without a task don't run and aren't here: container ls knows them",
    ),
    Command(
        "kill",
        "send a signal to a container (default: SIGTERM)",
        _kill,
        arguments="[flags] CONTAINER",
        takes_container=True,
        flags=(
            Flag("signal, s", STRING, "signal, by name or number"),
            Flag("exec-id", STRING, "send it to this exec of the task"),
            Flag("all, a", BOOL, "send it to every process of the container"),
        ),
        description=("the default is what the image says, else SIGTERM\nctr task kill -s KILL web"),
    ),
    Command(
        "pause",
        "freeze a container",
        _pause,
        arguments="CONTAINER",
        takes_container=True,
        description="nothing of it is told; task resume lets it go on",
    ),
    Command(
        "ps",
        "list the processes of a container",
        _ps,
        arguments="[flags] CONTAINER",
        takes_container=True,
        flags=(text.FORMAT_FLAG,),
        description="pids are those of the host; INFO tells which belong to an exec",
    ),
    Command("resume", "thaw a container", _resume, arguments="CONTAINER", takes_container=True),
    Command(
        "start",
        "run a container that was made before",
        _start,
        arguments="CONTAINER",
        takes_container=True,
        flags=(*IO_FLAGS, PID_FILE, DETACH, Flag("no-pivot", BOOL, "don't use pivot_root")),
        description="in the foreground, ending with its status; with --detach it goes on by itself",
    ),
    Command(
        "metrics, metric",
        "print one sample of a container's use of the machine",
        _metrics,
        arguments="CONTAINER",
        takes_container=True,
        flags=(Flag("format", STRING, '"table" or "json"', default="table"),),
        description="from its cgroups, version 1 or 2",
    ),
)
