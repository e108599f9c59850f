"""`ctr images export`: images as an archive, from the client or by the daemon."""

from __future__ import annotations

import os

from pycontainerd.client import archive, cio, images
from pycontainerd.ctr import session
from pycontainerd.ctr.meter import Meter
from pycontainerd.ctr.registry_flags import matcher_of
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.client.client import Client
    from pycontainerd.ctr.command import Call


def run(call: Call) -> int:
    """The command."""
    path, names = call.argument(0), call.arguments[1:]
    if not path or not names:
        raise InvalidArgument("please provide both an output filename and an image reference to export")
    with session.connect(call) as client:
        for name in names:  # before a file is made
            images.get(client, name)
        to_stdout = path == "-"
        out_fd = (
            1 if to_stdout else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        )
        try:
            if call.flags.on("local"):
                _export(call, client, names, out_fd)
            else:
                from pycontainerd.ctr import image_transfer

                image_transfer.export(
                    call, client, names, lambda data: cio.write_all(out_fd, data), shown=not to_stdout
                )
        except BaseException:
            if not to_stdout:
                os.unlink(path)
            raise
        finally:
            if not to_stdout:
                os.close(out_fd)
    return 0


def _export(call: Call, client: Client, names: Sequence[str], out_fd: int) -> None:
    matcher = matcher_of(call.flags)
    with Meter("exporting") as meter:

        def announce(size: int) -> None:
            meter.total = size

        def write(data: bytes) -> None:
            cio.write_all(out_fd, data)
            meter.move(len(data))

        archive.export(
            client,
            write,
            names,
            matcher,
            with_manifest_json=not call.flags.on("skip-manifest-json"),
            with_foreign=not call.flags.on("skip-non-distributable"),
            announce=announce,
        )
