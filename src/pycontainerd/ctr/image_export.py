"""`ctr images export`: images as an archive, from the client or by the daemon."""

from __future__ import annotations

import os
import stat

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
            _export(call, client, names, out_fd)
        except BaseException:
            if stat.S_ISREG(os.fstat(out_fd).st_mode) and not to_stdout:  # /dev/null stays
                os.unlink(path)
            raise
        finally:
            if not to_stdout:
                os.close(out_fd)
    return 0


def _export(call: Call, client: Client, names: Sequence[str], out_fd: int) -> None:
    flags, matcher = call.flags, matcher_of(call.flags)
    with_foreign = not flags.on("skip-non-distributable")
    meter = Meter("exporting")
    if meter.live:
        meter.total = archive.size_of(client, names, matcher, with_foreign=with_foreign)
    write = meter.writing(lambda data: cio.write_all(out_fd, data))
    if not flags.on("local"):
        from pycontainerd.ctr import image_transfer

        image_transfer.export(call, client, names, write, meter, shown=out_fd != 1)
        return
    with meter:
        archive.export(
            client,
            write,
            names,
            matcher,
            with_manifest_json=not flags.on("skip-manifest-json"),
            with_foreign=with_foreign,
        )
