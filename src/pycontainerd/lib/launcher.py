"""From a launcher's file name to the program's main, and back to the paths of the launchers.

Every file in bin/ is the same sh/Python polyglot; `run` is the first thing it calls.
"""

from __future__ import annotations

import gc
import sys
from time import monotonic_ns

from pycontainerd.lib import importer

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final, NoReturn

PROGRAMS: Final = {
    "pyctr": "pycontainerd.ctr.main",
    "pycontainerd": "pycontainerd.daemon.main",
    "pyrunc": "pycontainerd.runtime.cli.main",
    "containerd-shim-pyrunc-v2": "pycontainerd.shim.main",
    "containerd-shim-pyrunc-v1": "pycontainerd.shim.main",
    "containerd-shim-py": "pycontainerd.shim.linux",
}
# Processes that our programs start for themselves: no file in bin/, but argv[0] of another program's launcher.
INTERNAL: Final = {
    "pycontainerd-forkserver": "pycontainerd.forkserver.main",
    "pycontainerd-layer": "pycontainerd.lib.archive.worker",
}

# Words by which a command's bundle is called (importer.py): of the commands that are run so often that milliseconds count.
_GROUPS: Final = frozenset(("c", "container", "containers", "i", "image", "images", "t", "task", "tasks"))
_COMMANDS: Final = frozenset(
    ("--version", "create", "delete", "exec", "import", "kill", "list", "ls", "pull", "push", "rm", "run", "start", "state", "version")
)  # fmt: skip

BEGAN_NANOS: Final = monotonic_ns()  # this module is the first of ours that a program loads
_GARBAGE_THRESHOLD: Final = (
    50_000  # objects; what a short program loads is none, and to look through it takes .3 ms
)
_self = ""


def run(me: str, argv: list[str]) -> int:
    """Runs the program that the launcher `me` (absolute path) stands for; argv[0] is the name it was called by."""
    global _self  # noqa: PLW0603 - set once, before anything else runs
    _self = me
    name = me.rpartition("/")[2]
    module = INTERNAL.get(argv[0]) or PROGRAMS.get(name)
    if module is None:
        sys.stderr.write(f"{me}: no program of that name; the launchers are {', '.join(sorted(PROGRAMS))}\n")
        return 127
    if not sys.platform.startswith("linux"):
        sys.stderr.write(f"{name}: containers need the Linux kernel; this is {sys.platform}\n")
        return 1
    is_short = name in ("pyrunc", "pyctr")
    if is_short:
        gc.set_threshold(_GARBAGE_THRESHOLD)
    importer.install(_bundle(name, argv) if is_short else "")
    __import__(module)
    code: int = sys.modules[module].main(argv)
    if is_short:
        _leave(code)
    return code


def _bundle(name: str, argv: list[str]) -> str:
    """Which modules a command line will load, as far as that is worth remembering: its program, group and command."""
    if argv[0] in INTERNAL:
        return ""
    found = [name]
    for word in argv[1:]:
        if word in _COMMANDS or (word in _GROUPS and len(found) == 1):
            found.append(word)
            if word in _COMMANDS:
                break
    return "-".join(found) if len(found) > 1 else ""


def _leave(code: int) -> NoReturn:
    """Ends the process: taking the interpreter down costs 3 ms, and these programs leave nothing for it to do but a flush."""
    import posix

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 141  # nobody reads it any more, as after SIGPIPE
    importer.leave_bundle()
    posix._exit(code)  # noqa: SLF001 - its public name is os._exit, and os may not be loaded


def self_path() -> str:
    """The absolute path of the launcher this process was started from; empty when it was not started by one."""
    return _self


def bin_dir() -> str:
    """The folder of the launchers: this process's own, else the one of the source tree or prefix around the package."""
    if _self:
        return _self.rpartition("/")[0]
    import os

    package_root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if package_root.endswith("/src"):
        return package_root.removesuffix("/src") + "/bin"
    return os.path.dirname(os.path.dirname(os.path.dirname(package_root))) + "/bin"


def path(program: str) -> str:
    """The absolute path of a program's launcher."""
    return f"{bin_dir()}/{program}"


def interpreter_argv(program: str) -> list[str]:
    """The argv that starts a program, internal ones too, on this same interpreter without passing through sh."""
    if program in INTERNAL:
        return [sys.executable, "-IS", _self or path("pycontainerd"), program]
    return [sys.executable, "-IS", path(program), path(program)]
