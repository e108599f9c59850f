"""The way to libc: typed prototypes, raw system calls, errno as OSError, strings without NUL.

Man:     syscall(2), errno(3)
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
AT_RECURSIVE = 0x8000
AT_REMOVEDIR = 0x200

libc = ctypes.CDLL(None, use_errno=True)


def fs_bytes(path: str | bytes) -> bytes:
    """The kernel's form of a path or name; a NUL, which C would read as the end, is a ValueError."""
    raw = path if isinstance(path, bytes) else os.fsencode(path)
    if b"\0" in raw:
        raise ValueError(f"embedded null byte in {raw!r}")
    return raw


def check(result: int, func: Any, args: tuple[Any, ...]) -> int:
    """ctypes errcheck: -1 becomes the OSError subclass of errno, named after the call."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{func.__name__}: {os.strerror(number)}")
    return result


def prototype(name: str, *argtypes: Any, restype: Any = ctypes.c_int) -> Any:
    """A libc function with its types; declare each once, at import."""
    func: Any = libc[name]
    func.argtypes, func.restype, func.errcheck = argtypes, restype, check
    return func


def syscall(number: int, name: str, *argtypes: Any) -> Callable[..., int]:
    """A system call without a libc wrapper: one function object each, so argtypes are never shared."""
    func: Any = libc["syscall"]  # indexing makes a new function object each time
    func.argtypes, func.restype, func.errcheck = (ctypes.c_long, *argtypes), ctypes.c_long, check
    func.__name__ = name

    def call(*args: Any) -> int:
        result: int = func(number, *args)
        return result

    return call


def go_error(number: int) -> str:
    """An errno in the words of Go's syscall package, which the tools around us print: all lower case."""
    return os.strerror(number).lower()
