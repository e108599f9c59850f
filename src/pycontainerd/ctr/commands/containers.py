"""`ctr containers`: create, list, info, label, delete, checkpoint, restore."""

from __future__ import annotations

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command, at
from pycontainerd.ctr.container_flags import CONTAINER_FLAGS, IO_FLAGS
from pycontainerd.ctr.flags import BOOL, Flag
from pycontainerd.lib import errdefs
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.light import containers_v1


def _create(call: Call) -> int:
    from pycontainerd.ctr import make_container, session

    if not call.flags.text("config"):
        if not call.argument(0):
            raise InvalidArgument("image ref must be provided: invalid argument")
        if not call.argument(1):
            raise InvalidArgument("container id must be provided: invalid argument")
    with session.connect(call) as client:
        make_container.make(call, client)
    return 0


def _list(call: Call) -> int:
    from pycontainerd.client import containers
    from pycontainerd.ctr import session

    with session.connect(call) as client:
        found = containers.walk(client, call.arguments)
    if call.flags.on("quiet"):
        display.write("".join(f"{record.id}\n" for record in found))
        return 0
    rows = [{"id": record.id, "image": record.image, "runtime": record.runtime.name} for record in found]
    display.print_rows(rows, call.flags.text("format"), _table)
    return 0


def _table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [f"{row['id']}\t{row['image'] or '-'}\t{row['runtime']}\t" for row in rows]
    display.table("CONTAINER\tIMAGE\tRUNTIME\t", lines, display.WIDE)


def _info(call: Call) -> int:
    from pycontainerd.client import containers
    from pycontainerd.ctr import session

    container_id = call.argument(0)
    if not container_id:
        raise InvalidArgument("container id must be provided: invalid argument")
    with session.connect(call) as client:
        record = containers.get(client, container_id)
    spec = containers.spec_of(record)
    display.write_json(spec if call.flags.on("spec") else _document(record, spec))
    return 0


def _document(record: containers_v1.Container, spec: dict[str, Any]) -> dict[str, Any]:
    """The record as Go's encoder prints containerd's Container, in the fields' order."""
    return {
        "ID": record.id,
        "Labels": dict(sorted(record.labels.items())) or None,
        "Image": record.image,
        "Runtime": {
            "Name": record.runtime.name,
            "Options": display.any_json(record.runtime.options)
            if record.runtime.HasField("options")
            else None,
        },
        "SnapshotKey": record.snapshot_key,
        "Snapshotter": record.snapshotter,
        "CreatedAt": display.rfc3339(record.created_at.seconds, record.created_at.nanos),
        "UpdatedAt": display.rfc3339(record.updated_at.seconds, record.updated_at.nanos),
        "Extensions": {key: display.any_json(record.extensions[key]) for key in sorted(record.extensions)}
        or None,
        "Spec": spec,
    }


def _label(call: Call) -> int:
    from pycontainerd.client import containers
    from pycontainerd.ctr import session

    container_id = call.argument(0)
    if not container_id:
        raise InvalidArgument("container id must be provided: invalid argument")
    with session.connect(call) as client:
        labels = containers.set_labels(client, container_id, text.labels_from(call.arguments[1:]))
    display.write(display.label_text(labels, "") + "\n")
    return 0


def _delete(call: Call) -> int:
    from pycontainerd.ctr import cni, session

    if not call.arguments:
        raise InvalidArgument("must specify at least one container to delete: invalid argument")
    failure: ContainerdError | None = None
    with session.connect(call) as client:
        for container_id in call.arguments:
            try:
                _delete_one(client, container_id, keep_snapshot=call.flags.on("keep-snapshot"))
                cni.release(client.namespace, container_id)
            except ContainerdError as error:
                text.complain(f'failed to delete container "{container_id}"', error=error)
                failure = failure or error
    if failure is not None:
        raise failure
    return 0


def _delete_one(client: Client, container_id: str, *, keep_snapshot: bool) -> None:
    """A stopped (or never started) task goes with its container; a running one is refused."""
    from pycontainerd.client import cio, containers, tasks
    from pycontainerd.lib.api.light import task_types

    containers.get(client, container_id)
    process = tasks.Process(client, container_id)
    try:
        info = process.info()
    except errdefs.NotFound:
        containers.delete(client, container_id, keep_snapshot=keep_snapshot)
        return
    if info.status not in {task_types.Status.STOPPED, task_types.Status.CREATED}:
        raise errdefs.FailedPrecondition(
            f"cannot delete a non stopped container: {{{status_name(info.status).lower()} {info.exit_status} "
            f"{display.go_time(info.exited_at.seconds if info.HasField('exited_at') else -62135596800, info.exited_at.nanos)}}}",
            hint=f"stop it first: task kill -s KILL {container_id}, then task rm {container_id}",
        )
    if info.status == task_types.Status.CREATED:
        import signal

        process.kill(signal.SIGKILL)
        client.wait(process.start_wait())
    process.delete()
    cio.remove_streams(cio.Streams(info.stdin, info.stdout, info.stderr))
    containers.delete(client, container_id, keep_snapshot=keep_snapshot)


def status_name(status: int) -> str:
    """The enum's name: RUNNING, STOPPED ..."""
    from pycontainerd.lib.api.light import task_types

    names = {value: name for name, value in vars(task_types.Status).items() if name.isupper()}
    return str(names.get(status, "UNKNOWN"))


COMMANDS = (
    Command(
        "checkpoint",
        "make an image of a container",
        at("checkpoints", "container"),
        arguments="CONTAINER REF",
        flags=(
            Flag("rw", BOOL, "with what it has written"),
            Flag("image", BOOL, "with the content of its image"),
            Flag("task", BOOL, "with its processes, as criu dumps them"),
        ),
        takes_container=True,
        description="REF names the image that is made; containers restore makes a container of it again",
    ),
    Command(
        "restore",
        "make and start a container of such an image",
        at("checkpoints", "restore"),
        arguments="CONTAINER REF",
        flags=(
            Flag("rw", BOOL, "with what it had written"),
            Flag("live", BOOL, "with its processes, where they were"),
            *IO_FLAGS,
        ),
        description="CONTAINER is the id of the new container, REF an image that containers checkpoint made",
    ),
    Command(
        "create",
        "make a container without running it",
        _create,
        arguments="[flags] Image|RootFS CONTAINER [COMMAND] [ARG...]",
        flags=CONTAINER_FLAGS,
        anywhere=False,
        description=(
            "task start runs it; of an image the snapshot is made, too\n"
            "ctr container create docker.io/library/busybox:latest web sleep 1000"
        ),
    ),
    Command(
        "delete, del, remove, rm",
        "remove containers",
        _delete,
        arguments="[flags] CONTAINER [CONTAINER, ...]",
        flags=(Flag("keep-snapshot", BOOL, "leave the container's snapshot"),),
        description="one that runs has to be stopped first: task kill -s KILL ID, task rm ID",
    ),
    Command(
        "info",
        "print everything about a container",
        _info,
        arguments="CONTAINER",
        takes_container=True,
        flags=(Flag("spec", BOOL, "print the OCI spec only"),),
        description="as JSON, with the spec decoded; the beginning of an id is enough",
    ),
    Command(
        "list, ls",
        "list containers",
        _list,
        arguments="[flags] [<filter>, ...]",
        flags=(Flag("quiet, q", BOOL, "print ids only"), text.FORMAT_FLAG),
        description="filters are id==web, image~=busybox, labels.app==x, runtime.name==...; those that match any are listed",
    ),
    Command(
        "label",
        "set and clear labels of a container",
        _label,
        arguments="[flags] CONTAINER [<key>=<value>, ...]",
        takes_container=True,
        description="KEY= clears a label; what the container's labels are then is printed",
    ),
)
