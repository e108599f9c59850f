"""eBPF: the few instructions and commands that device rules on cgroup version 2 need.

Man:     bpf(2)
Spec:    linux include/uapi/linux/bpf.h
"""

from __future__ import annotations

import struct

from pycontainerd.lib.linux import ctypes
from pycontainerd.lib.linux.constants import number
from pycontainerd.lib.linux.libc import syscall

BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_PROG_DETACH, BPF_PROG_GET_FD_BY_ID, BPF_PROG_QUERY = 5, 8, 9, 13, 16
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2
MAX_PROGRAMS = 64

_bpf = syscall(number("bpf"), "bpf", ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
_LICENSE = ctypes.create_string_buffer(b"Apache")


def _pack(opcode: int, destination: int, source: int, offset: int, value: int) -> bytes:
    return struct.pack("<BBhi", opcode, source << 4 | destination, offset, value)


def load_word(destination: int, source: int, offset: int) -> bytes:
    """destination = *(u32 *)(source + offset)."""
    return _pack(0x61, destination, source, offset, 0)


def move(destination: int, source: int) -> bytes:
    """destination = source, 32 bits."""
    return _pack(0xBC, destination, source, 0, 0)


def move_value(destination: int, value: int) -> bytes:
    """destination = value."""
    return _pack(0xB7, destination, 0, 0, value)


def and_value(destination: int, value: int) -> bytes:
    """destination &= value, 32 bits."""
    return _pack(0x54, destination, 0, 0, value)


def shift_right(destination: int, bits: int) -> bytes:
    """destination >>= bits, 32 bits, logical."""
    return _pack(0x74, destination, 0, 0, bits)


def jump_if_equal(register: int, value: int, offset: int) -> bytes:
    """Skips `offset` instructions when equal."""
    return _pack(0x15, register, 0, offset, value)


def jump_if_not_equal(register: int, value: int, offset: int) -> bytes:
    """Skips `offset` instructions when not equal."""
    return _pack(0x55, register, 0, offset, value)


def exit_() -> bytes:
    """Returns r0."""
    return _pack(0x95, 0, 0, 0, 0)


def with_offset(instruction: bytes, offset: int) -> bytes:
    """The same jump, to another place."""
    return instruction[:2] + struct.pack("<h", offset) + instruction[4:]


def _call(command: int, attributes: bytes) -> tuple[int, bytes]:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = _bpf(command, ctypes.addressof(buffer), len(attributes))
    return result, buffer.raw


def load_program(kind: int, code: bytes) -> int:
    """The program's descriptor, the caller's; EINVAL or EACCES when the verifier refuses it."""
    instructions = ctypes.create_string_buffer(code, len(code))
    attributes = struct.pack(
        "<IIQQ", kind, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(_LICENSE)
    ).ljust(48, b"\0")
    return _call(BPF_PROG_LOAD, attributes)[0]


def attach(cgroup_fd: int, program_fd: int, kind: int, *, flags: int = 0) -> None:
    """Attaches a program to a cgroup."""
    _call(BPF_PROG_ATTACH, struct.pack("<IIII", cgroup_fd, program_fd, kind, flags))


def detach(cgroup_fd: int, program_fd: int, kind: int) -> None:
    """Takes it off again."""
    _call(BPF_PROG_DETACH, struct.pack("<IIII", cgroup_fd, program_fd, kind, 0))


def query_programs(cgroup_fd: int, kind: int) -> list[int]:
    """Ids of the programs attached to this cgroup itself."""
    ids = (ctypes.c_uint32 * MAX_PROGRAMS)()
    attributes = struct.pack("<IIIIQI", cgroup_fd, kind, 0, 0, ctypes.addressof(ids), MAX_PROGRAMS)
    _result, raw = _call(BPF_PROG_QUERY, attributes.ljust(32, b"\0"))
    count = struct.unpack_from("<I", raw, 24)[0]
    return list(ids[:count])


def open_program(program_id: int) -> int:
    """A loaded program's descriptor by its id, the caller's."""
    return _call(BPF_PROG_GET_FD_BY_ID, struct.pack("<III", program_id, 0, 0))[0]
