"""`ctr namespaces`: create, list, remove, label."""

from __future__ import annotations

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import BOOL, Flag
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, NotFound

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainerd.ctr.command import Call


def _require_name(call: Call) -> str:
    if not call.arguments or not call.argument(0):
        raise InvalidArgument("please specify a namespace")
    return call.argument(0)


def _create(call: Call) -> int:
    from pycontainerd.ctr import session
    from pycontainerd.lib.api.light import namespaces_v1

    name = _require_name(call)
    namespace = namespaces_v1.Namespace(name=name, labels=text.labels_from(call.arguments[1:]))
    with session.connect(call) as client:
        client.call(
            namespaces_v1.NAMESPACES, "Create", namespaces_v1.CreateNamespaceRequest(namespace=namespace)
        )
    return 0


def _label(call: Call) -> int:
    from pycontainerd.ctr import session
    from pycontainerd.lib.api.light import namespaces_v1, wkt

    name = _require_name(call)
    with session.connect(call) as client:
        for key, value in text.labels_from(call.arguments[1:]).items():
            request = namespaces_v1.UpdateNamespaceRequest(
                namespace=namespaces_v1.Namespace(name=name, labels={key: value}),
                update_mask=wkt.FieldMask(paths=[f"labels.{key}"]),
            )
            client.call(namespaces_v1.NAMESPACES, "Update", request)
    return 0


def _list(call: Call) -> int:
    from pycontainerd.ctr import session
    from pycontainerd.lib.api.light import namespaces_v1

    with session.connect(call) as client:
        reply = client.call(namespaces_v1.NAMESPACES, "List", namespaces_v1.ListNamespacesRequest())
    found = list(reply.namespaces)
    if call.flags.on("quiet"):
        display.write("".join(f"{namespace.name}\n" for namespace in found))
        return 0
    rows = [{"name": namespace.name, "labels": dict(namespace.labels)} for namespace in found]
    display.print_rows(rows, call.flags.text("format"), _table)
    return 0


def _table(rows: Sequence[dict[str, Any]]) -> None:
    display.table(
        "NAME\tLABELS\t",
        [f"{row['name']}\t{display.label_text(row['labels'], '')}\t" for row in rows],
        display.SPACES,
    )


def _remove(call: Call) -> int:
    from pycontainerd.ctr import session
    from pycontainerd.lib.api.light import namespaces_v1

    failure: ContainerdError | None = None
    with session.connect(call) as client:
        for name in call.arguments:
            if call.flags.on("cgroup"):
                _remove_cgroup(name)
            try:
                client.call(
                    namespaces_v1.NAMESPACES, "Delete", namespaces_v1.DeleteNamespaceRequest(name=name)
                )
            except NotFound:
                failure = failure or None  # gone is what was wanted
            except ContainerdError as error:
                text.complain(f"unable to delete {name}", error=error)
                failure = failure or type(error)(f"unable to delete {name}: {error}", hint=error.hint)
                continue
            display.write(f"{name}\n")
    if failure is not None:
        raise failure
    return 0


def _remove_cgroup(name: str) -> None:
    """Removes the (empty) cgroup folder of a namespace in every hierarchy."""
    import os

    from pycontainerd.lib import identifiers

    identifiers.require_valid(name)
    for hierarchy in sorted(os.listdir("/sys/fs/cgroup")):
        path = f"/sys/fs/cgroup/{hierarchy}/{name}"
        if os.path.isdir(path):
            os.rmdir(path)


COMMANDS = (
    Command(
        "create, c",
        "make a namespace",
        _create,
        arguments="<name> [<key>=<value>]",
        description="the name must be unused",
    ),
    Command(
        "list, ls",
        "list namespaces",
        _list,
        arguments="[flags]",
        flags=(Flag("quiet, q", BOOL, "print names only"), text.FORMAT_FLAG),
    ),
    Command(
        "remove, rm",
        "remove namespaces",
        _remove,
        arguments="<name> [<name>, ...]",
        flags=(Flag("cgroup, c", BOOL, "remove the namespace's cgroup too"),),
        description="a namespace has to be empty",
    ),
    Command(
        "label",
        "set and clear labels of a namespace",
        _label,
        arguments="<name> [<key>=<value>, ...]",
        description="an empty value clears the label",
    ),
)
