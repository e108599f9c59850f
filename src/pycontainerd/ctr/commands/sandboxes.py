"""`ctr sandboxes`: run, list, info, remove."""

from __future__ import annotations

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command, HelpWanted
from pycontainerd.ctr.container_flags import DEFAULT_RUNTIME
from pycontainerd.ctr.flags import BOOL, STRING, STRINGS, Flag
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.light import types

_MAX_CONFIG: Final = 16 << 20


def _run(call: Call) -> int:
    from pycontainerd.client import sandboxes
    from pycontainerd.ctr import session

    if len(call.arguments) != 2:
        raise HelpWanted
    path, sandbox_id = call.arguments
    if not sandbox_id:
        raise InvalidArgument("failed to create new sandbox: sandbox ID must be specified")
    spec = _config(path)
    with session.connect(call) as client:
        try:
            sandboxes.run(client, sandbox_id, call.flags.text("runtime"), spec)
        except ContainerdError as error:
            raise type(error)(f"failed to create new sandbox: {error}", hint=error.hint) from error
    display.write(f"{sandbox_id}\n")
    return 0


def _config(path: str) -> bytes:
    """The file, which holds an object of the runtime-spec."""
    import json

    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_CONFIG + 1)
    except OSError as error:
        raise InvalidArgument(f"failed to read sandbox config: {text.os_text(error)}") from error
    if len(data) > _MAX_CONFIG:
        raise InvalidArgument(f"failed to read sandbox config: {path} is larger than {_MAX_CONFIG} bytes")
    try:
        document = json.loads(data)
    except ValueError as error:
        raise InvalidArgument(
            f"failed to parse sandbox config: {error}", hint=f"{path} has to hold an OCI runtime spec as JSON"
        ) from error
    if not isinstance(document, dict):
        raise InvalidArgument("failed to parse sandbox config: not an object")
    return data


def _list(call: Call) -> int:
    from pycontainerd.client import sandboxes
    from pycontainerd.ctr import session

    with session.connect(call) as client:
        try:
            found = sandboxes.walk(client, call.flags.texts("filters"))
        except ContainerdError as error:
            raise type(error)(f"failed to list sandboxes: {error}", hint=error.hint) from error
    rows = [
        {
            "id": one.sandbox_id,
            "created": display.go_time(one.created_at.seconds, one.created_at.nanos),
            "runtime": one.runtime.name,
        }
        for one in found
    ]
    display.print_rows(rows, call.flags.text("format"), _table)
    return 0


def _table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [f"{row['id']}\t{row['created']}\t{row['runtime']}\t" for row in rows]
    display.table("ID\tCREATED\tRUNTIME\t", lines, display.SPACES)


def _info(call: Call) -> int:
    from pycontainerd.client import sandboxes
    from pycontainerd.ctr import session

    sandbox_id = call.argument(0)
    if not sandbox_id:
        raise InvalidArgument("sandbox id must be provided: invalid argument", hint="sandboxes ls lists them")
    with session.connect(call) as client:
        try:
            record = sandboxes.get(client, sandbox_id)
        except ContainerdError as error:
            raise type(error)(f"failed to load sandbox {sandbox_id}: {error}", hint=error.hint) from error
    display.write_json(document(record))
    return 0


def document(record: types.Sandbox) -> dict[str, Any]:
    """The record as Go's encoder prints containerd's Sandbox, in the fields' order."""
    return {
        "ID": record.sandbox_id,
        "Labels": dict(sorted(record.labels.items())) or None,
        "Runtime": {
            "Name": record.runtime.name,
            "Options": display.any_json(record.runtime.options)
            if record.runtime.HasField("options")
            else None,
        },
        "Spec": display.any_json(record.spec) if record.HasField("spec") else None,
        "Sandboxer": record.sandboxer,
        "CreatedAt": display.rfc3339(record.created_at.seconds, record.created_at.nanos),
        "UpdatedAt": display.rfc3339(record.updated_at.seconds, record.updated_at.nanos),
        "Extensions": {key: display.any_json(record.extensions[key]) for key in sorted(record.extensions)},
    }


def _remove(call: Call) -> int:
    """What can't be removed is said on stderr; like ctr, it goes on and ends with status 0."""
    from pycontainerd.ctr import session

    if not call.arguments:
        raise HelpWanted
    with session.connect(call) as client:
        for sandbox_id in call.arguments:
            _remove_one(client, sandbox_id, force=call.flags.on("force"))
    return 0


def _remove_one(client: Client, sandbox_id: str, *, force: bool) -> None:
    from pycontainerd.client import sandboxes

    try:
        record = sandboxes.get(client, sandbox_id)
    except ContainerdError as error:
        text.complain(f"failed to load sandbox {sandbox_id}", error=error)
        return
    try:
        sandboxes.stop(client, record)
    except ContainerdError as error:
        text.complain(f"failed to stop sandbox {sandbox_id}", error=error)
        if not force:
            return
    try:
        sandboxes.shut_down(client, record)
    except ContainerdError as error:
        text.complain(f"failed to shutdown sandbox {sandbox_id}", error=error)
        return
    text.inform(f"deleted: {sandbox_id}")


COMMANDS = (
    Command(
        "run, create, c, r",
        "make a sandbox and start it",
        _run,
        arguments="[flags] <pod-config.json> <sandbox-id>",
        flags=(Flag("runtime", STRING, "runtime name, or absolute path of a shim", default=DEFAULT_RUNTIME),),
        description="the runtime's shim has to know containerd 2's sandbox API; the file goes to it as it is",
    ),
    Command(
        "list, ls",
        "list sandboxes",
        _list,
        arguments="[flags]",
        flags=(
            Flag("filters", STRINGS, "filter, such as id==web or labels.app==x; those that match any"),
            text.FORMAT_FLAG,
        ),
    ),
    Command(
        "remove, rm",
        "stop sandboxes and remove them",
        _remove,
        arguments="<id> [<id>, ...]",
        flags=(Flag("force, f", BOOL, "remove it although it can't be stopped"),),
    ),
    Command("info, i", "print the record of a sandbox", _info, arguments="<sandbox id>"),
)
