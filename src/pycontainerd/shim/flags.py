"""The shim's command line in Go's flag syntax: `-name value`, `-name=value`, `--name`, up to the first other word.

Spec: Go package flag, containerd docs/runtime-v2.md#commands
"""

from __future__ import annotations

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
_TEXTS: Final = ("address", "bundle", "debug-socket", "id", "namespace", "publish-binary", "socket")
_SWITCHES: Final = ("debug", "info", "v", "version")
_TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")
_FALSE: Final = ("0", "f", "F", "false", "FALSE", "False")


class Flags:
    """Parsed flags; `action` is the first word after them."""

    __slots__ = (
        "action",
        "address",
        "bundle",
        "debug",
        "debug_socket",
        "id",
        "info",
        "namespace",
        "publish_binary",
        "socket",
        "version",
    )

    def __init__(self) -> None:
        self.action = ""
        self.address = ""
        self.bundle = ""
        self.debug = False
        self.debug_socket = ""
        self.id = ""
        self.info = False
        self.namespace = ""
        self.publish_binary = ""
        self.socket = ""
        self.version = False


class HelpRequested(InvalidArgument):
    """-h or -help."""

    reason = "flag: help requested"


def parse(arguments: Sequence[str]) -> Flags:
    """Raises InvalidArgument in the words of Go's flag package."""
    flags = Flags()
    words = list(arguments)
    while words:
        word = words[0]
        if len(word) < 2 or not word.startswith("-"):
            break
        words.pop(0)
        if word == "--":
            break
        _take(flags, word, words)
    flags.action = words[0] if words else ""
    return flags


def _take(flags: Flags, word: str, rest: list[str]) -> None:
    name, has_value, value = word.removeprefix("-").removeprefix("-").partition("=")
    if not name or name.startswith(("-", "=")):
        raise InvalidArgument(f"bad flag syntax: {word}")
    if name in ("h", "help"):
        raise HelpRequested
    if name in _SWITCHES:
        if has_value and value not in _TRUE + _FALSE:
            raise InvalidArgument(f'invalid boolean value "{value}" for -{name}: parse error')
        setattr(flags, "version" if name == "v" else name, value in _TRUE if has_value else True)
    elif name in _TEXTS:
        if not has_value:
            if not rest:
                raise InvalidArgument(f"flag needs an argument: -{name}")
            value = rest.pop(0)
        setattr(flags, name.replace("-", "_"), value)
    else:
        raise InvalidArgument(f"flag provided but not defined: -{name}")
