"""`ctr content`: list, get, ingest, active, label, delete."""

from __future__ import annotations

import os

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import BOOL, INT, STRING, Flag
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.digest import Digest


def _digest(argument: str) -> Digest:
    """ctr prints go-digest's text alone."""
    from pycontainerd.lib import digest as digests

    try:
        return digests.parse(argument)
    except InvalidArgument as error:
        raise InvalidArgument(
            str(error).removesuffix(": invalid argument"), hint="a digest is sha256: and 64 hex digits"
        ) from error


def _list(call: Call) -> int:
    import time

    from pycontainerd.client import content
    from pycontainerd.ctr import session

    with session.connect(call) as client:
        found = list(content.walk(client, call.arguments))
    if call.flags.on("quiet"):
        display.write("".join(f"{info.digest}\n" for info in found))
        return 0
    now = time.time()
    rows = [
        {
            "digest": info.digest,
            "size": info.size,
            "age_seconds": now - info.created_at.seconds - info.created_at.nanos / 1e9,
            "labels": dict(info.labels),
        }
        for info in found
    ]
    display.print_rows(rows, call.flags.text("format"), _table)
    return 0


def _table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [
        f"{row['digest']}\t{display.decimal_size(row['size'])}\t{display.human_age(row['age_seconds'])}\t"
        f"{display.label_text(row['labels'])}"
        for row in rows
    ]
    display.table("DIGEST\tSIZE\tAGE\tLABELS", lines, display.TABS)


def _get(call: Call) -> int:
    from pycontainerd.client import cio, content
    from pycontainerd.ctr import session

    digest = _digest(call.argument(0))
    with session.connect(call) as client:
        for chunk in content.read(client, digest):
            cio.write_all(1, chunk)
    return 0


def _ingest(call: Call) -> int:
    from pycontainerd.client import content
    from pycontainerd.ctr import session

    ref = call.argument(0)
    if not ref:
        raise InvalidArgument("must specify a transaction reference")
    expected = call.flags.text("expected-digest")
    if expected:
        expected = _digest(expected)
    with session.connect(call) as client:
        content.write_blob(
            client, ref, _standard_input(), size=call.flags.number("expected-size"), digest=expected
        )
    return 0


def _standard_input() -> Iterator[bytes]:
    while data := os.read(0, 1 << 20):
        yield data


def _active(call: Call) -> int:
    import time

    from pycontainerd.client import content
    from pycontainerd.ctr import session

    with session.connect(call) as client:
        found = content.statuses(client, [f"ref~={call.argument(0)}"] if call.argument(0) else [])
    now = time.time()
    lines = [
        f"{status.ref}\t{display.decimal_size(status.offset)}\t"
        f"{display.human_age(now - status.started_at.seconds - status.started_at.nanos / 1e9)}\t"
        for status in found
    ]
    display.table("REF\tSIZE\tAGE\t", lines, display.TABS)
    return 0


def _label(call: Call) -> int:
    from pycontainerd.client import content
    from pycontainerd.ctr import session

    digest = _digest(call.argument(0))
    with session.connect(call) as client:
        content.set_labels(client, digest, text.labels_from(call.arguments[1:]))
        labels = dict(content.info(client, digest).labels)
    display.write(display.label_text(labels, "") + "\n")
    return 0


def _delete(call: Call) -> int:
    from pycontainerd.client import content
    from pycontainerd.ctr import session
    from pycontainerd.lib.errdefs import NotFound

    failure: ContainerdError | None = None
    with session.connect(call) as client:
        for argument in call.arguments:
            try:
                content.delete(client, _digest(argument))
            except NotFound:
                continue
            except ContainerdError as error:
                text.complain(f"could not delete {argument}", error=error)
                failure = failure or error
                continue
            display.write(f"{argument}\n")
    if failure is not None:
        raise failure
    return 0


COMMANDS = (
    Command(
        "active",
        "list the ingests under way",
        _active,
        arguments="[flags] [<regexp>]",
    ),
    Command("delete, del, remove, rm", "remove blobs", _delete, arguments="[<digest>, ...]"),
    Command("get", "write a blob to stdout", _get, arguments="[<digest>, ...]"),
    Command(
        "ingest",
        "store what comes from stdin",
        _ingest,
        arguments="[flags] <key>",
        flags=(
            Flag("expected-size", INT, "refuse any other size"),
            Flag("expected-digest", STRING, "refuse any other content"),
        ),
    ),
    Command(
        "list, ls",
        "list blobs",
        _list,
        arguments="[flags]",
        flags=(Flag("quiet, q", BOOL, "print digests only"), text.FORMAT_FLAG),
    ),
    Command("label", "set and clear labels of a blob", _label, arguments="<digest> [<label>=<value> ...]"),
)
