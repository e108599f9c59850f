"""containerd-shim-pyrunc-v2 and -v1: parses the command line and does one of start, delete, serve, version, info.

    -namespace NS -address A -publish-binary P -id ID [-bundle DIR] [-debug] start    make a shim, print its address
    -namespace NS -address A -publish-binary P -id ID  -bundle DIR  [-debug] delete   clean up after a dead one
    -namespace NS -id ID -address A [-debug]                                          serve, listener as fd 3

A file name that ends with -v1 is containerd 1.6's containerd-shim-runc-v1: its flags, and one shim for each container.

Spec: containerd docs/runtime-v2.md#shim-authoring
"""

from __future__ import annotations

import os
import sys

from pycontainerd.lib import errdefs, trace
from pycontainerd.shim import flags as command_line
from pycontainerd.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.shim.flags import Flags


def main(argv: list[str]) -> int:
    """Gives the exit code. argv[0] is the launcher's path, which ps will show."""
    trace.start(os.environ)
    program = argv[0]
    name = os.path.basename(program)
    flags = command_line.parse_or_explain(argv, command_line.V1 if _is_v1(program) else command_line.V2)
    if isinstance(flags, int):
        return flags
    if flags.version:
        sys.stdout.write(
            f"{name}:\n  Version:  {__version__}\n  Python version: {sys.version.split()[0]}\n\n"
        )
        return 0
    try:
        return _run(argv, flags)
    except (errdefs.ContainerdError, OSError, ValueError) as e:
        sys.stderr.write(f"{_runtime_name(name)}: {e}")
        return 1


def _run(argv: list[str], flags: Flags) -> int:
    program = argv[0]
    if flags.info:
        return _write(_info(program))
    if not flags.namespace:
        raise errdefs.InvalidArgument("shim namespace cannot be empty")
    from pycontainerd.shim.serve import serve

    if flags.action == "start":
        from pycontainerd.lib.linux import interpreter
        from pycontainerd.shim import bootstrap

        # The serving process is a fork of this one, and containers will see its executable in /proc/self/exe.
        interpreter.require_protected(argv)

        grouped = not _is_v1(program)
        return _write(bootstrap.start(flags, 0, lambda: serve(program, flags), grouped=grouped))
    if flags.action == "delete":
        from pycontainerd.lib.log import Logger
        from pycontainerd.shim import delete

        return _write(delete.delete(flags, Logger(2, "debug" if flags.debug else "info")))
    return serve(program, flags)


def _write(data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
    return 0


def _info(program: str) -> bytes:
    from pycontainerd.lib.api.light import types, wkt

    options = b""
    while data := os.read(0, 65536):
        options += data
    info = types.RuntimeInfo(
        name=_runtime_name(os.path.basename(program)),
        version=types.RuntimeVersion(version=__version__),
        # Nothing rather than an empty message: Go clients look for a type by its name.
        options=wkt.Any.FromString(options) if options else None,
    )
    return info.SerializeToString()


def _is_v1(program: str) -> bool:
    return program.endswith("-v1")


def _runtime_name(name: str) -> str:
    return "io.containerd." + ".".join(name.removeprefix("containerd-shim-").split("-"))
