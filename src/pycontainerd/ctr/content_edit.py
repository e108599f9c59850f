"""`ctr content edit`: a blob through an editor, and back under its new digest."""

from __future__ import annotations

import os
import sys
import time

from pycontainerd.client import content
from pycontainerd.ctr import display, session
from pycontainerd.ctr.commands.content import parse_digest
from pycontainerd.lib import digest as digests
from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontainerd.ctr.command import Call

_CHUNK = 1 << 20


def run(call: Call) -> int:
    """The command. An editor that fails ends it with the editor's status, and stores nothing."""
    if call.flags.text("validate"):
        raise Unimplemented("validating the edit result not supported")
    digest = parse_digest(call.argument(0))
    editor = call.flags.text("editor")
    if not editor:
        raise InvalidArgument("editor is required", hint="--editor COMMAND, or EDITOR in the environment")
    import tempfile

    with session.connect(call) as client, tempfile.NamedTemporaryFile(prefix="edit-") as file:
        for chunk in content.read(client, digest):
            file.write(chunk)
        file.flush()
        status = _edit(editor, file.name)
        if status:
            sys.stderr.write(f"exit status {status}\n")
            return status
        result = digests.of_chunks(_chunks(file.name))
        # Nothing refers to it yet: without the label the next collection would take it away.
        labels = {"containerd.io/gc.root": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        if result != digest:
            size = os.stat(file.name).st_size
            content.write_blob(
                client, f"edit-{digest}", _chunks(file.name), size=size, digest=result, labels=labels
            )
    display.write(f"{result}\n")
    return 0


def _edit(editor: str, path: str) -> int:
    """The user's own command line, as every $EDITOR is run: by the shell."""
    import shlex
    import subprocess

    status = subprocess.run(["sh", "-c", f"{editor} {shlex.quote(path)}"], check=False).returncode
    return status if status >= 0 else 128 - status


def _chunks(path: str) -> Iterator[bytes]:
    # By name: an editor may have put another file in its place.
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            yield data
