"""Programs of a few instructions, assembled by hand: one system call whose errno is the exit status."""

from __future__ import annotations

import struct

_BASE = 0x400000


def socket64(family: int, kind: int) -> bytes:
    """x86_64: socket(family, kind, 0); exits with errno, or with 256 - fd."""
    code = b"\xbf" + struct.pack("<I", family) + b"\xbe" + struct.pack("<I", kind)
    code += b"\x31\xd2\xb8\x29\0\0\0\x0f\x05"  # edx = 0; eax = 41; syscall
    code += b"\xf7\xd8\x89\xc7\xb8\x3c\0\0\0\x0f\x05"  # exit(-eax)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 2, 62, 1, _BASE + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    size = 120 + len(code)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000) + code


def socketcall32(family: int, kind: int) -> bytes:
    """i386: socketcall(SYS_SOCKET, {family, kind, 0}) by int 0x80; exits as `socket64`'s."""
    return _i386(b"\xb8\x66\0\0\0\xbb\x01\0\0\0\xb9", struct.pack("<III", family, kind, 0))


def getpid32() -> bytes:
    """i386: nothing but an exit with 0: whether the kernel runs such programs."""
    return _elf32(b"\x31\xdb\xb8\x01\0\0\0\xcd\x80")


def _i386(before: bytes, arguments: bytes) -> bytes:
    after = b"\xcd\x80\xf7\xd8\x89\xc3\xb8\x01\0\0\0\xcd\x80"  # int 0x80; exit(-eax)
    address = _BASE + 84 + len(before) + 4 + len(after)
    return _elf32(before + struct.pack("<I", address) + after + arguments)


def _elf32(code: bytes) -> bytes:
    header = struct.pack(
        "<16sHHIIIIIHHHHHH",
        b"\x7fELF\x01\x01\x01", 2, 3, 1, _BASE + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0,
    )  # fmt: skip
    size = 84 + len(code)
    return header + struct.pack("<IIIIIIII", 1, 0, _BASE, _BASE, size, size, 5, 0x1000) + code
