"""`pycontainerd oci-hook PROGRAM [ARG...]`: becomes a program, with what the OCI state says filled into its arguments.

A runtime's hooks get the container's state on stdin and fixed arguments; this stands between a runtime and programs
that want the id, pid or root of the container as an argument. Of Go's templates, containerd's functions alone are known:

    {{id}}  {{pid}}  {{status}}  {{bundle}}  {{rootfs}}  {{annotation "KEY"}}  {{"literal"}}

Spec: runtime-spec runtime.md#state, config.md#posix-platform-hooks; containerd oci-hook
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_DOCUMENT: Final = 16 << 20
_ACTION: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_CALL: Final = re.compile(r'\s*(\w+)(?:\s+("(?:[^"\\]|\\.)*"|`[^`]*`))?\s*')
_LITERAL: Final = re.compile(r'\s*("(?:[^"\\]|\\.)*"|`[^`]*`)\s*')


def run(arguments: list[str]) -> int:
    """Replaces this process; returns only by raising, or 0 after printing help."""
    if arguments[:1] in (["--help"], ["-h"], ["help"]):
        print(
            "usage: pycontainerd oci-hook PROGRAM [ARG...] < state", __doc__.partition("\n\n")[2], sep="\n\n"
        )
        return 0
    if not arguments:
        raise InvalidArgument("oci-hook needs a program to run")
    if arguments[0].startswith("-"):
        raise InvalidArgument(f"flag provided but not defined: {arguments[0]}")
    state = _document(sys.stdin.buffer.read(_MAX_DOCUMENT), "state on stdin")
    config = _config(str(state.get("bundle", "")))
    argv = [fill(argument, functions(state, config)) for argument in arguments]
    try:
        os.execve(argv[0], argv, os.environ)  # noqa: S606 -- a hook names its program by path
    except FileNotFoundError as e:
        raise NotFound(f"{argv[0]}: no such file or directory") from e
    except OSError as e:
        raise ContainerdError(f"{argv[0]}: {(e.strerror or str(e)).lower()}") from e


def functions(state: dict[str, Any], config: dict[str, Any]) -> dict[str, Callable[..., str]]:
    """What an argument may call."""
    bundle = str(state.get("bundle", ""))

    def rootfs() -> str:
        root = config.get("root") or {}
        path = str(root.get("path", ""))
        return path if path.startswith("/") else os.path.normpath(os.path.join(bundle, path))

    return {
        "id": lambda: str(state.get("id", "")),
        "pid": lambda: str(state.get("pid", 0)),
        "status": lambda: str(state.get("status", "")),
        "bundle": lambda: bundle,
        "rootfs": rootfs,
        "annotation": lambda key: str((state.get("annotations") or {}).get(key, "")),
    }


def fill(argument: str, known: dict[str, Callable[..., str]]) -> str:
    """An argument with its actions replaced; InvalidArgument in Go's words for one that isn't known."""

    def replace(match: re.Match[str]) -> str:
        inner = match[1]
        literal = _LITERAL.fullmatch(inner)
        if literal is not None:
            return _unquoted(literal[1])
        call = _CALL.fullmatch(inner)
        if call is None:
            raise InvalidArgument(f"template: oci-hook: {{{{{inner}}}}} is not supported")
        function = known.get(call[1])
        if function is None:
            raise InvalidArgument(f'template: oci-hook:1: function "{call[1]}" not defined')
        given = [] if call[2] is None else [_unquoted(call[2])]
        wanted = 1 if call[1] == "annotation" else 0
        if len(given) != wanted:
            raise InvalidArgument(
                f"template: oci-hook: wrong number of args for {call[1]}: want {wanted} got {len(given)}"
            )
        return function(*given)

    text = _ACTION.sub(replace, argument)
    if "{{" in _ACTION.sub("", argument):
        raise InvalidArgument("template: oci-hook:1: unclosed action")
    return text


def _unquoted(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    try:
        return str(json.loads(text))
    except ValueError as e:
        raise InvalidArgument(f"template: oci-hook: bad string {text}") from e


def _config(bundle: str) -> dict[str, Any]:
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, "rb") as f:
            return _document(f.read(_MAX_DOCUMENT), path)
    except OSError as e:
        raise NotFound(f"open {path}: {(e.strerror or str(e)).lower()}") from e


def _document(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as e:
        raise InvalidArgument(f"{what} is not JSON: {e}") from e
    if not isinstance(document, dict):
        raise InvalidArgument(f"{what} is not an object")
    return document
