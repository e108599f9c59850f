"""`ctr snapshots`: list, info, tree, usage, prepare, view, mounts, commit, diff, unpack, label, delete."""

from __future__ import annotations

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command, HelpWanted, at
from pycontainerd.ctr.flags import BOOL, STRING, STRINGS, Flag
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.light import types

FLAGS = (text.SNAPSHOTTER_FLAG,)
_KINDS = {0: "Unknown", 1: "View", 2: "Active", 3: "Committed"}


def _list(call: Call) -> int:
    from pycontainerd.client import snapshots
    from pycontainerd.ctr import session

    with session.connect(call) as client:
        found = list(snapshots.walk(client, session.snapshotter(call)))
    rows = [
        {"key": info.name, "parent": info.parent, "kind": _KINDS.get(info.kind, "Unknown")} for info in found
    ]
    display.print_rows(rows, call.flags.text("format"), _table)
    return 0


def _table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [f"{row['key']}\t{row['parent']}\t{row['kind']}\t" for row in rows]
    display.table("KEY\tPARENT\tKIND\t", lines, display.SPACES)


def _info(call: Call) -> int:
    from pycontainerd.client import snapshots
    from pycontainerd.ctr import session

    if not call.argument(0) or len(call.arguments) != 1:
        raise HelpWanted
    with session.connect(call) as client:
        info = snapshots.stat(client, session.snapshotter(call), call.argument(0))
    document: dict[str, Any] = {"Kind": _KINDS.get(info.kind, "Unknown"), "Name": info.name}
    if info.parent:
        document["Parent"] = info.parent
    if info.labels:
        document["Labels"] = dict(sorted(info.labels.items()))
    document["Created"] = display.rfc3339(info.created_at.seconds, info.created_at.nanos)
    document["Updated"] = display.rfc3339(info.updated_at.seconds, info.updated_at.nanos)
    display.write_json(document)
    return 0


def _tree(call: Call) -> int:
    from pycontainerd.client import snapshots
    from pycontainerd.ctr import session

    with session.connect(call) as client:
        found = list(snapshots.walk(client, session.snapshotter(call)))
    children: dict[str, list[str]] = {}
    for info in found:
        children.setdefault(info.parent, []).append(info.name)
    lines: list[str] = []
    stack = [(name, 0) for name in reversed(children.get("", []))]
    while stack:
        name, depth = stack.pop()
        lines.append(f"{'  ' * (depth - 1)}  \\_ {name}" if depth else f" {name}")
        stack += [(child, depth + 1) for child in reversed(children.get(name, []))]
    display.write("".join(f"{line}\n" for line in lines))
    return 0


def _usage(call: Call) -> int:
    from pycontainerd.client import snapshots
    from pycontainerd.ctr import session

    snapshotter = session.snapshotter(call)
    rows: list[dict[str, Any]] = []
    with session.connect(call) as client:
        keys = call.arguments or [info.name for info in snapshots.walk(client, snapshotter)]
        for key in keys:
            usage = snapshots.usage(client, snapshotter, key)
            rows.append({"key": key, "size": usage.size, "inodes": usage.inodes})

    def table(found: Sequence[dict[str, Any]]) -> None:
        size_text = str if call.flags.on("b") else display.binary_size
        lines = [f"{row['key']}\t{size_text(row['size'])}\t{row['inodes']}\t" for row in found]
        display.table("KEY\tSIZE\tINODES\t", lines, display.SPACES)

    display.print_rows(rows, call.flags.text("format"), table)
    return 0


def _prepare(call: Call) -> int:
    return _make(call, "prepare")


def _view(call: Call) -> int:
    return _make(call, "view")


def _make(call: Call, verb: str) -> int:
    import time

    from pycontainerd.client import snapshots
    from pycontainerd.ctr import session

    if not 1 <= len(call.arguments) <= 2:
        raise HelpWanted
    # It is nobody's yet: without the label the next collection would take it away.
    labels = {"containerd.io/gc.root": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    make = snapshots.prepare if verb == "prepare" else snapshots.view
    with session.connect(call) as client:
        mounts = make(client, session.snapshotter(call), call.argument(0), call.argument(1), labels)
    _show_mounts(call, mounts, call.flags.text("target"))
    return 0


def _show_mounts(call: Call, mounts: Sequence[types.Mount], target: str) -> None:
    if target:
        display.write("".join(_mount_line(mount, target) for mount in mounts))
    if call.flags.flag("mounts") and call.flags.on("mounts"):
        display.write_json(
            [{"Type": mount.type, "Source": mount.source, "Options": list(mount.options)} for mount in mounts]
        )


def _mount_line(mount: types.Mount, target: str) -> str:
    options = f" -o {','.join(mount.options)}" if mount.options else ""
    return f"mount -t {mount.type} {mount.source} {target}{options}\n"


def _mounts(call: Call) -> int:
    from pycontainerd.client import snapshots
    from pycontainerd.ctr import session

    if len(call.arguments) != 2:
        raise HelpWanted
    with session.connect(call) as client:
        mounts = snapshots.mounts(client, session.snapshotter(call), call.argument(1))
        if call.flags.on("temp"):
            from pycontainerd.client import activation

            mounts = activation.activate(client, f"ctr{call.argument(1)}", mounts)
    _show_mounts(call, mounts, call.argument(0))
    return 0


def _commit(call: Call) -> int:
    import time

    from pycontainerd.client import snapshots
    from pycontainerd.ctr import session

    if len(call.arguments) != 2:
        raise HelpWanted
    labels = {"containerd.io/gc.root": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    with session.connect(call) as client:
        snapshots.commit(client, session.snapshotter(call), call.argument(0), call.argument(1), labels)
    return 0


def _label(call: Call) -> int:
    from pycontainerd.client import snapshots
    from pycontainerd.ctr import session

    if not call.argument(0):
        raise InvalidArgument("please specify a snapshot key")
    labels = text.labels_from(call.arguments[1:])
    snapshotter = session.snapshotter(call)
    with session.connect(call) as client:
        snapshots.set_labels(client, snapshotter, call.argument(0), labels)
        after = dict(snapshots.stat(client, snapshotter, call.argument(0)).labels)
    display.write(display.label_text(after, "") + "\n")
    return 0


def _delete(call: Call) -> int:
    from pycontainerd.client import snapshots
    from pycontainerd.ctr import session

    with session.connect(call) as client:
        for key in call.arguments:
            try:
                snapshots.remove(client, session.snapshotter(call), key)
            except ContainerdError as error:
                raise type(error)(f'failed to remove "{key}": {error}', hint=error.hint) from error
    return 0


_MAKE_FLAGS = (
    Flag("target, t", STRING, "print the mount command for this folder"),
    Flag("mounts", BOOL, "print the mounts as JSON"),
)
COMMANDS = (
    Command(
        "commit",
        "make an active snapshot a committed one",
        _commit,
        arguments="<key> <active>",
        description="the first name is the new one, the second what snapshots prepare made",
    ),
    Command(
        "diff",
        "write what a snapshot adds to its parent, or another one to it, as a layer to stdout",
        at("snapshot_layers", "make_diff"),
        arguments="[flags] <idA> [<idB>]",
        flags=(
            Flag(
                "media-type",
                STRING,
                "media type of the layer",
                default="application/vnd.oci.image.layer.v1.tar+gzip",
            ),
            Flag("ref", STRING, "ingest reference to use"),
            Flag("keep", BOOL, "leave the layer in the content store, for you to delete"),
            Flag("label", STRINGS, "label of the layer (key=value)"),
        ),
        description="ctr snapshots diff ID | tar -tz",
    ),
    Command(
        "info",
        "print the record of a snapshot",
        _info,
        arguments="<key>",
        description="as JSON; snapshots list knows the keys",
    ),
    Command(
        "list, ls",
        "list snapshots",
        _list,
        flags=(text.FORMAT_FLAG,),
        description="the parents of an image's snapshots are its lower layers",
    ),
    Command(
        "mounts, m, mount",
        "print the mount commands of a snapshot",
        _mounts,
        arguments="[flags] <target> <key>",
        flags=(
            Flag("temp", BOOL, "have the daemon mount it, and print the command that binds what it mounted"),
        ),
        description="nothing is mounted; as root: eval the output",
    ),
    Command(
        "prepare",
        "make a writable snapshot",
        _prepare,
        arguments="[flags] <key> [<parent>]",
        flags=_MAKE_FLAGS,
        description=(
            "without a parent it is empty; with --target the output can be run:\n"
            "ctr snapshots prepare -t /mnt work PARENT | sh"
        ),
    ),
    Command(
        "delete, del, remove, rm",
        "remove snapshots",
        _delete,
        arguments="<key> [<key>, ...]",
        description="one that others lie on, or a container has, can't go",
    ),
    Command(
        "label",
        "set and clear labels",
        _label,
        arguments="<name> [<label>=<value> ...]",
        description="LABEL= clears one; containerd.io/gc.root=1 keeps the snapshot from being collected",
    ),
    Command("tree", "show which snapshot lies on which", _tree),
    Command(
        "unpack",
        "make the snapshots of an image",
        at("snapshot_layers", "unpack_manifest"),
        arguments="[flags] <digest>",
        flags=(text.SNAPSHOTTER_FLAG, text.SYNC_FS_FLAG),
        description="the digest is the one that images list shows",
    ),
    Command(
        "usage",
        "show what snapshots take",
        _usage,
        arguments="[flags] [<key>, ...]",
        flags=(Flag("b", BOOL, "print bytes"), text.FORMAT_FLAG),
        description="of all of them without a key; what lies below isn't counted again",
    ),
    Command(
        "view",
        "make a read-only snapshot",
        _view,
        arguments="[flags] <key> [<parent>]",
        flags=_MAKE_FLAGS,
        description="ctr snapshots view -t /mnt look PARENT | sh",
    ),
)
