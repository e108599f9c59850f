"""What we use of ctypes, straight from its C module: ctypes itself takes 2 ms to import, of some 40 for a whole `pyrunc run`.

Every name means what it means there. `POINTER` is for prototypes and fields, at import: whoever imports ctypes itself
later empties the cache by which two pointers to one type are one type.

Spec: Python's library reference, ctypes
"""

from __future__ import annotations

__all__ = (
    "CDLL",
    "POINTER",
    "PyDLL",
    "Structure",
    "addressof",
    "c_byte",
    "c_char",
    "c_char_p",
    "c_int",
    "c_int32",
    "c_long",
    "c_size_t",
    "c_ssize_t",
    "c_uint",
    "c_uint32",
    "c_uint64",
    "c_ulong",
    "c_ushort",
    "c_void_p",
    "create_string_buffer",
    "get_errno",
    "sizeof",
)

try:
    from _ctypes import (
        FUNCFLAG_CDECL,
        FUNCFLAG_PYTHONAPI,
        FUNCFLAG_USE_ERRNO,
        POINTER,
        RTLD_LOCAL,
        CFuncPtr,
        Structure,
        _SimpleCData,
        addressof,
        dlopen,
        get_errno,
        sizeof,
    )

    is_direct = True
except ImportError:  # an interpreter whose module has other insides
    is_direct = False

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
if TYPE_CHECKING or not is_direct:
    from ctypes import (
        CDLL,
        POINTER,
        PyDLL,
        Structure,
        addressof,
        c_byte,
        c_char,
        c_char_p,
        c_int,
        c_int32,
        c_long,
        c_size_t,
        c_ssize_t,
        c_uint,
        c_uint32,
        c_uint64,
        c_ulong,
        c_ushort,
        c_void_p,
        create_string_buffer,
        get_errno,
        sizeof,
    )
else:

    def _number(name: str, code: str) -> Any:
        return type(name, (_SimpleCData,), {"_type_": code, "__module__": __name__, "__slots__": ()})

    # By struct's letters; int is 32 bits and long 64 wherever pycontainerd runs.
    c_byte, c_char, c_char_p = _number("c_byte", "b"), _number("c_char", "c"), _number("c_char_p", "z")
    c_ushort, c_void_p = _number("c_ushort", "H"), _number("c_void_p", "P")
    c_int = c_int32 = _number("c_int", "i")
    c_uint = c_uint32 = _number("c_uint", "I")
    c_long = c_ssize_t = _number("c_long", "l")
    c_ulong = c_size_t = c_uint64 = _number("c_ulong", "L")

    class CDLL:
        """A shared library, None for what the process has loaded; `library[name]` is a new function each time."""

        _FLAGS = FUNCFLAG_CDECL

        def __init__(self, name: str | None, use_errno: bool = False) -> None:
            self._handle = dlopen(name, RTLD_LOCAL)
            flags = self._FLAGS | (FUNCFLAG_USE_ERRNO if use_errno else 0)
            self._function = type("_FuncPtr", (CFuncPtr,), {"_flags_": flags, "_restype_": c_int})

        def __getitem__(self, name: str) -> Any:
            function = self._function((name, self))
            function.__name__ = name
            return function

    class PyDLL(CDLL):
        """The same, its functions called with the GIL held."""

        _FLAGS = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI

    def create_string_buffer(init: int | bytes, size: int | None = None) -> Any:
        """An array of `size` chars that begins with `init`; of its length and a NUL where no size is given."""
        if isinstance(init, int):
            return (c_char * init)()
        found = (c_char * (len(init) + 1 if size is None else size))()
        found.value = init
        return found
