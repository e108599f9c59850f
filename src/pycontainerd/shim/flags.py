"""The shims' command lines in Go's flag syntax: `-name value`, `-name=value`, `--name`, up to the first other word.

Spec: Go package flag, containerd docs/runtime-v2.md#commands
"""

from __future__ import annotations

import sys

from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

USAGE: Final = """\
  -address string
    \tgrpc address back to main containerd
  -bundle string
    \tpath to the bundle if not workdir
  -debug
    \tenable debug output in logs
  -debug-socket string
    \tdebug socket path to serve
  -id string
    \tid of the task
  -info
    \tget the option protobuf from stdin, print the shim info protobuf to stdout, and exit
  -namespace string
    \tnamespace that owns the shim
  -publish-binary string
    \tpath to publish binary (used for publishing events)
  -socket string
    \tsocket path to serve
  -v\tshow the shim version and exit
  -version
    \tshow the shim version and exit
"""
_TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")
_FALSE: Final = ("0", "f", "F", "false", "FALSE", "False")

_V1_USAGE: Final = """\
  -address string
    \tgrpc address back to main containerd
  -bundle string
    \tpath to the bundle if not workdir
  -debug
    \tenable debug output in logs
  -id string
    \tid of the task
  -namespace string
    \tnamespace that owns the shim
  -publish-binary string
    \tpath to publish binary (used for publishing events) (default "containerd")
  -socket string
    \tsocket path to serve
  -v\tshow the shim version and exit
"""
_LINUX_USAGE: Final = """\
  -address string
    \tgrpc address back to main containerd
  -containerd-binary containerd publish
    \tpath to containerd binary (used for containerd publish) (default "containerd")
  -criu string
    \tpath to criu binary
  -debug
    \tenable debug output in logs
  -namespace string
    \tnamespace that owns the shim
  -runtime-root string
    \troot directory for the runtime (default "/run/containerd/runc")
  -socket string
    \tsocket path to serve
  -systemd-cgroup
    \tset runtime to use systemd-cgroup
  -workdir string
    \tpath used to storge large temporary data
"""


class Syntax:
    """The flags one of the shims defines: those with a text (and its default), and the switches."""

    __slots__ = ("switches", "texts", "usage")

    def __init__(self, usage: str, texts: dict[str, str], switches: tuple[str, ...]) -> None:
        self.usage = usage
        self.texts = texts
        self.switches = switches


_COMMON: Final = {"address": "", "bundle": "", "id": "", "namespace": "", "socket": ""}
# The shims of containerd 2, of containerd 1.6's io.containerd.runc.v1, and of its io.containerd.runtime.v1.linux.
V2: Final = Syntax(
    USAGE, {**_COMMON, "debug-socket": "", "publish-binary": ""}, ("debug", "info", "v", "version")
)
V1: Final = Syntax(_V1_USAGE, {**_COMMON, "publish-binary": "containerd"}, ("debug", "v"))
LINUX: Final = Syntax(
    _LINUX_USAGE,
    {
        "address": "",
        "containerd-binary": "containerd",
        "criu": "",
        "namespace": "",
        "runtime-root": "/run/containerd/runc",
        "socket": "",
        "workdir": "",
    },
    ("debug", "systemd-cgroup"),
)


class Flags:
    """Parsed flags of any of them; `action` is the first word after them."""

    action = ""
    address = ""
    bundle = ""
    containerd_binary = ""
    criu = ""
    debug = False
    debug_socket = ""
    id = ""
    info = False
    namespace = ""
    publish_binary = ""
    runtime_root = ""
    socket = ""
    systemd_cgroup = False
    version = False
    workdir = ""


class HelpRequested(InvalidArgument):
    """-h or -help."""

    reason = "flag: help requested"


def parse(arguments: Sequence[str], syntax: Syntax = V2) -> Flags:
    """Raises InvalidArgument in the words of Go's flag package."""
    flags = Flags()
    for name, default in syntax.texts.items():
        setattr(flags, name.replace("-", "_"), default)
    words = list(arguments)
    while words:
        word = words[0]
        if len(word) < 2 or not word.startswith("-"):
            break
        words.pop(0)
        if word == "--":
            break
        _take(flags, syntax, word, words)
    flags.action = words[0] if words else ""
    return flags


def parse_or_explain(argv: Sequence[str], syntax: Syntax) -> Flags | int:
    """The flags of a whole command line, or the exit status after the usage was printed."""
    try:
        return parse(argv[1:], syntax)
    except HelpRequested:
        sys.stderr.write(f"Usage of {argv[0]}:\n{syntax.usage}")
        return 0
    except InvalidArgument as e:
        sys.stderr.write(f"{e}\nUsage of {argv[0]}:\n{syntax.usage}")
        return 2


def _take(flags: Flags, syntax: Syntax, word: str, rest: list[str]) -> None:
    name, has_value, value = word.removeprefix("-").removeprefix("-").partition("=")
    if not name or name.startswith(("-", "=")):
        raise InvalidArgument(f"bad flag syntax: {word}")
    if name in ("h", "help"):
        raise HelpRequested
    if name in syntax.switches:
        if has_value and value not in _TRUE + _FALSE:
            raise InvalidArgument(f'invalid boolean value "{value}" for -{name}: parse error')
        attribute = "version" if name == "v" else name.replace("-", "_")
        setattr(flags, attribute, value in _TRUE if has_value else True)
    elif name in syntax.texts:
        if not has_value:
            if not rest:
                raise InvalidArgument(f"flag needs an argument: -{name}")
            value = rest.pop(0)
        setattr(flags, name.replace("-", "_"), value)
    else:
        raise InvalidArgument(f"flag provided but not defined: -{name}")
