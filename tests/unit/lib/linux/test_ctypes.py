"""Our short way to ctypes: the same names, sizes and behaviour as the whole of it."""

from __future__ import annotations

import ctypes as whole
import errno
import subprocess
import sys
from pathlib import Path

import pytest

from pycontainerd.lib.linux import ctypes as ours

SRC = Path(__file__).resolve().parents[4] / "src"
OTHER_INSIDES = """
import builtins, sys
sys.path.insert(0, {src!r})
general = builtins.__import__
def without(name, scope=None, *more):
    if name == "_ctypes" and scope and scope["__name__"] == "pycontainerd.lib.linux.ctypes":
        raise ImportError(name)
    return general(name, scope, *more)
builtins.__import__ = without
import ctypes
from pycontainerd.lib.linux import ctypes as ours
from pycontainerd.lib.linux import idmap, path, process, scheduling, seccomp
from pycontainerd.runtime.libcontainer import create, exec
assert all(getattr(ours, name) is getattr(ctypes, name) for name in ours.__all__)
print(ours.is_direct, process.start_time(1) >= 0)
"""
TYPES = [name for name in ours.__all__ if name.startswith("c_")]


def test_it_does_without_the_whole_on_the_interpreters_that_we_support():
    assert ours.is_direct
    assert ours.CDLL is not whole.CDLL


def test_an_interpreter_whose_module_has_other_insides_gets_the_whole() -> None:
    argv = [sys.executable, "-IS", "-c", OTHER_INSIDES.format(src=str(SRC))]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"


@pytest.mark.parametrize("name", TYPES)
def test_a_type_is_as_large_and_of_the_same_kind(name):
    mine, theirs = getattr(ours, name), getattr(whole, name)
    assert ours.sizeof(mine) == whole.sizeof(theirs)
    if name not in ("c_char", "c_char_p", "c_void_p"):
        assert [mine(-1).value, mine(1 << 70).value] == [theirs(-1).value, theirs(1 << 70).value]


def test_a_structure_has_the_same_layout():
    fields = [(name, name) for name in TYPES]
    mine = type("Mine", (ours.Structure,), {"_fields_": [(n, getattr(ours, t)) for n, t in fields]})
    theirs = type("Theirs", (whole.Structure,), {"_fields_": [(n, getattr(whole, t)) for n, t in fields]})
    assert ours.sizeof(mine) == whole.sizeof(theirs)
    assert [getattr(mine, n).offset for n, _ in fields] == [getattr(theirs, n).offset for n, _ in fields]


def test_a_library_gives_new_functions_with_names_and_errno():
    library = ours.CDLL(None, use_errno=True)
    first, second = library["close"], library["close"]
    assert first is not second
    assert first.__name__ == "close"
    first.argtypes = (ours.c_int,)
    assert first(-1) == -1
    assert ours.get_errno() == errno.EBADF
    with pytest.raises(whole.ArgumentError):
        first("no number")


def test_a_library_or_function_that_is_not_there_fails_as_with_ctypes():
    for module in (ours, whole):
        with pytest.raises(OSError, match="no-such-library"):
            module.CDLL("no-such-library.so.0")
        with pytest.raises(AttributeError, match="no_such_function"):
            module.CDLL(None)["no_such_function"]


def test_arguments_by_pointer():
    library = ours.CDLL(None)
    times = (ours.c_long * 2)()
    get = library["clock_gettime"]
    get.argtypes = (ours.c_int, ours.POINTER(ours.c_long))
    assert get(1, times) == 0
    assert times[0] > 0
    with pytest.raises(whole.ArgumentError):
        get(1, (ours.c_int * 2)())


@pytest.mark.parametrize("arguments", [(b"abc",), (b"abc", 3), (b"abc", 6), (4,)])
def test_a_buffer_holds_what_it_is_given(arguments):
    mine, theirs = ours.create_string_buffer(*arguments), whole.create_string_buffer(*arguments)
    assert (mine.raw, mine.value) == (theirs.raw, theirs.value)


def test_a_functions_address_is_what_a_pointer_to_it_holds():
    mine = ours.c_void_p.from_buffer(ours.CDLL(None)["_exit"]).value
    assert mine == whole.cast(whole.CDLL(None)["_exit"], whole.c_void_p).value
