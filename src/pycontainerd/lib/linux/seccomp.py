"""Seccomp filters: from rules to BPF."""
from __future__ import annotations
import ctypes
from pycontainerd.lib.errdefs import Unimplemented
FILTER_FLAGS: dict[str, int] = {}
class SockFprog(ctypes.Structure):
    """struct sock_fprog."""
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))
def compile_filter(seccomp, cache_dir):
    raise Unimplemented("seccomp is not supported")
def library_version() -> str:
    return ""
