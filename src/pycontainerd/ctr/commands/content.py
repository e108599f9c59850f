"""`ctr content`: list, get, ingest, active, label, delete; and the table of what is in ctr/content_*.py."""

from __future__ import annotations

import os

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command, at, only_subcommands
from pycontainerd.ctr.flags import BOOL, DURATION, INT, STRING, STRINGS, Flag
from pycontainerd.ctr.registry_flags import (
    ALL_METADATA_FLAG,
    PLATFORM_FLAGS,
    REGISTRY_FLAGS,
    SKIP_METADATA_FLAG,
)
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.digest import Digest


def parse_digest(argument: str) -> Digest:
    """A digest; ctr prints go-digest's text alone."""
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

    digest = parse_digest(call.argument(0))
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
        expected = parse_digest(expected)
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

    from pycontainerd.ctr import content_active

    now = time.time()
    rows = [
        {"ref": ref, "size": offset, "age_seconds": now - started_at}
        for ref, offset, started_at in content_active.find(call)
    ]
    display.print_rows(rows, call.flags.text("format"), _active_table)
    return 0


def _active_table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [
        f"{row['ref']}\t{display.decimal_size(row['size'])}\t{display.human_age(row['age_seconds'])}\t"
        for row in rows
    ]
    display.table("REF\tSIZE\tAGE\t", lines, display.TABS)


def _label(call: Call) -> int:
    from pycontainerd.client import content
    from pycontainerd.ctr import session

    digest = parse_digest(call.argument(0))
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
                content.delete(client, parse_digest(argument))
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
        flags=(
            Flag("timeout, t", DURATION, "give up after this time", env="CONTAINERD_FETCH_TIMEOUT"),
            Flag("root", STRING, "look into this folder of a content store instead of asking the daemon"),
            text.FORMAT_FLAG,
        ),
        description="a regular expression chooses among their references",
    ),
    Command(
        "delete, del, remove, rm",
        "remove blobs",
        _delete,
        arguments="[<digest>, ...]",
        description="an image that needs one of them can't be run or pushed then",
    ),
    Command(
        "edit",
        "change a blob with an editor; prints the digest of what came out",
        at("content_edit"),
        arguments="[flags] <digest>",
        flags=(
            Flag("validate", STRING, "format to check the result against"),
            Flag("editor", STRING, "command of the editor; a shell runs it", env="EDITOR"),
        ),
        description="the blob itself stays as it is; images name digests, not files",
    ),
    Command(
        "fetch",
        "fetch an image from a registry without unpacking it",
        at("image_pull", "fetch"),
        arguments="[flags] <remote>",
        flags=(
            *REGISTRY_FLAGS,
            Flag("label", STRINGS, "label of the image (key=value)"),
            *PLATFORM_FLAGS,
            ALL_METADATA_FLAG,
            SKIP_METADATA_FLAG,
            Flag("metadata-only", BOOL, "fetch manifests and configs, of every platform, and no layers"),
        ),
        description="the reference is whole: docker.io/library/busybox:latest",
    ),
    Command(
        "fetch-object",
        "write what a registry has under a reference to stdout",
        at("content_remote", "fetch_object"),
        arguments="[flags] <remote> [<object>]",
        flags=REGISTRY_FLAGS,
        description="an object (a tag or a digest) takes the place of the reference's own",
    ),
    Command(
        "fetch-blob",
        "write blobs of a registry to stdout, by their digests",
        at("content_remote", "fetch_blob"),
        arguments="[flags] <remote> [<digest>, ...]",
        flags=(
            *REGISTRY_FLAGS,
            Flag("media-type", STRING, "ask for this media type, where the registry has it to say"),
        ),
        description="of the reference only the repository counts; no daemon is needed",
    ),
    Command(
        "push-object",
        "upload one blob to a registry",
        at("content_remote", "push_object"),
        arguments="[flags] <remote> <object> <type>",
        flags=REGISTRY_FLAGS,
        description=(
            "the object is a digest of the content store, the type its media type\n"
            "a document (manifest or index) gets the reference's tag"
        ),
    ),
    Command(
        "prune",
        "drop what keeps content alive",
        only_subcommands,
        subcommands=(
            Command(
                "references",
                "let layers go that are unpacked: drop their manifests' references to them",
                at("content_prune", "references"),
                flags=(
                    Flag("async", BOOL, "don't wait until the content is collected"),
                    Flag("dry", BOOL, "print what would be dropped"),
                ),
            ),
        ),
    ),
    Command(
        "get",
        "write a blob to stdout",
        _get,
        arguments="[<digest>, ...]",
        description="ctr content get sha256:... | tar -tz",
    ),
    Command(
        "ingest",
        "store what comes from stdin",
        _ingest,
        arguments="[flags] <key>",
        flags=(
            Flag("expected-size", INT, "refuse any other size"),
            Flag("expected-digest", STRING, "refuse any other content"),
        ),
        description=(
            "the key is any name for the transaction; content ls shows the digest afterwards\n"
            "ctr content ingest --expected-digest sha256:... mine < file"
        ),
    ),
    Command(
        "list, ls",
        "list blobs",
        _list,
        arguments="[flags]",
        flags=(Flag("quiet, q", BOOL, "print digests only"), text.FORMAT_FLAG),
        description="nothing but labels and leases keeps a blob: one that no image leads to is collected",
    ),
    Command(
        "label",
        "set and clear labels of a blob",
        _label,
        arguments="<digest> [<label>=<value> ...]",
        description="LABEL= clears one; containerd.io/gc.root=1 keeps the blob from being collected",
    ),
)
