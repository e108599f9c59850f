"""The process that touches a layer's bytes, apart from the daemon: few capabilities, bounded memory, only given fds.

argv: pycontainerd-layer apply [--overlay] [--userxattr] [--limit BYTES] --target FD [--lower FD,FD…]
        fd 0 the blob; the target directory; the lower directories, newest first
      pycontainerd-layer serve
        fd 3 the socket on which workers are asked for: each is a fork of this process (layer_server.py)
      pycontainerd-layer diff --target FD [--gzip | --zstd] [--idmap]
        fd 0 one JSON line {"left": [mount…], "right": [mount…], "latest_nanos": N or null}; the pipe or file the layer is written to
stdout: one JSON line, {"diff_id": …, "size": …} or {"error": {"code", "message", "errno"}}; exit status 0 either way.

Runs in: a child of the daemon
"""

from __future__ import annotations

import os
import resource
import sys

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.oci import document

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

MEMORY_BYTES: Final = 1 << 30
KEPT_BYTES: Final = 128 << 20  # more than the pieces of a layer that are under way
# What unpacking needs: any owner, any mode, devices, file capabilities, and the overlay's trusted attributes.
CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SYS_ADMIN",
)
# For a diff of mounts that show other owners (--idmap): to write the maps of a user namespace.
IDMAP_CAPABILITIES: Final = ("CAP_SETGID", "CAP_SETUID")


def main(argv: list[str]) -> int:
    """Runs one job, whose answer is on stdout, or forks a process for each."""
    if argv[1:] == ["serve"]:
        from pycontainerd.lib.archive import layer_server

        return layer_server.serve()
    from pycontainerd.lib.linux import process

    process.reset_signals()  # as a forked one does: what the daemon's caller ignored (nohup) is no business of a worker's
    trace.start(os.environ)
    sys.stdout.write(document.dumps(answer(argv[1:], confined=False)) + "\n")
    sys.stdout.flush()
    return 0


def answer(args: list[str], *, confined: bool = True) -> dict[str, Any]:
    """One job's product, or the error it stands for; `confined` says whether this process has given up its rights."""
    try:
        if not confined:
            confine(IDMAP_CAPABILITIES if "--idmap" in args else ())
        return run(args)
    except errdefs.ContainerdError as error:
        return {"error": {"code": error.code, "message": str(error), "errno": 0}}
    except OSError as error:
        text = f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else str(error.strerror)
        return {"error": {"code": errdefs.Unknown.code, "message": text, "errno": error.errno or 0}}
    except MemoryError:
        message = f"the layer needs more than {MEMORY_BYTES} bytes of memory to unpack"
        return {"error": {"code": errdefs.ResourceExhausted.code, "message": message, "errno": 0}}


def descriptors(fds: Sequence[int]) -> list[str]:
    """The words that name the directories of an `apply`: the target, then the lower ones."""
    target, *lower = fds
    return ["--target", str(target), "--lower", ",".join(map(str, lower))]


def confine(also: Sequence[str] = ()) -> None:
    """Gives up what a job does not need, before the first byte is read."""
    from pycontainerd.lib.linux import capabilities, malloc, prctl

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    malloc.keep_freed(KEPT_BYTES)
    # Workers have equal rights: without this, one could trace another. Who has more of them can't be traced by the others,
    # and has to look into a child of its own.
    if not also:
        prctl.set_dumpable(False)
    prctl.set_no_new_privs()
    if os.geteuid() == 0:
        mask = capabilities.to_mask((*CAPABILITIES, *also)) & permitted_mask()
        capabilities.capset(mask, mask, 0)


def permitted_mask() -> int:
    """The capabilities this process may have. Spec: proc_pid_status(5), CapPrm"""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapPrm:"):
                return int(line.split()[1], 16)
    return 0


def run(args: list[str]) -> dict[str, Any]:
    """One job; raises what goes wrong."""
    verb, options = args[0], args[1:]
    if verb == "apply":
        return _apply(options)
    if verb == "diff":
        return _diff(options)
    raise errdefs.InvalidArgument(f"pycontainerd-layer: no verb {verb!r}")


def _apply(options: list[str]) -> dict[str, Any]:
    from pycontainerd.lib.archive.apply import apply_layer

    applied = apply_layer(
        0,
        int(_value(options, "--target")),
        overlay="--overlay" in options,
        userxattr="--userxattr" in options,
        lower_fds=[int(fd) for fd in _value(options, "--lower").split(",") if fd],
        limit_bytes=int(_value(options, "--limit") or 0),
    )
    return {"diff_id": applied.diff_id, "size": applied.size_bytes}


def _diff(options: list[str]) -> dict[str, Any]:
    from pycontainerd.lib.archive.diff import write_diff

    request = document.loads(sys.stdin.buffer.readline())
    compression = "gzip" if "--gzip" in options else "zstd" if "--zstd" in options else ""
    target = int(_value(options, "--target"))
    diff_id = write_diff(request["left"], request["right"], target, compression, request["latest_nanos"])
    return {"diff_id": diff_id}


def _value(options: list[str], name: str) -> str:
    return options[options.index(name) + 1] if name in options else ""
