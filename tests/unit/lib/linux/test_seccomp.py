"""The filter, run by a small classic-BPF machine: what a profile says is what the kernel will answer."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from pycontainerd.lib.linux.seccomp import ACTIONS, ARCHITECTURES, compile_filter

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers below are x86_64's")
X86_64, X86 = ARCHITECTURES["SCMP_ARCH_X86_64"], ARCHITECTURES["SCMP_ARCH_X86"]
ALLOW, ERRNO = ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_ERRNO"]
READ, WRITE, KILL, MSEAL = 0, 1, 62, 462


def answer(code: bytes, number: int, arch: int = X86_64, args: tuple[int, ...] = ()) -> int:
    """What the filter returns for a call."""
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(*args, *[0] * (6 - len(args))))
    accumulator, at = 0, 0
    while True:
        opcode, true, false, value = struct.unpack_from("<HBBI", code, at * 8)
        at += 1
        if opcode == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif opcode == 0x54:
            accumulator &= value
        elif opcode == 0x05:
            at += value
        elif opcode in (0x15, 0x25, 0x35, 0x45):
            taken = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }
            at += true if taken[opcode] else false
        elif opcode == 0x06:
            return value
        else:
            raise AssertionError(f"opcode {opcode:#x}")


def build(tmp_path, default, *rules, archs=("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")):
    return compile_filter(
        {"defaultAction": default, "architectures": list(archs), "syscalls": list(rules)}, str(tmp_path)
    )


def rule(action, *names, **more):
    return {"names": list(names), "action": action, **more}


def test_allow_list(tmp_path):
    code = build(tmp_path, "SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "read", "kill"))
    assert answer(code, READ) == ALLOW
    assert answer(code, WRITE) == ERRNO | errno.EPERM
    assert answer(code, 3, X86) == ALLOW  # read of i386


def test_calls_newer_than_the_profile_do_not_exist(tmp_path):
    code = build(tmp_path, "SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "read", "statx"))
    assert answer(code, 332) == ALLOW
    assert answer(code, 331) == ERRNO | errno.EPERM
    assert answer(code, 333) == ERRNO | errno.ENOSYS
    assert answer(code, 9999) == ERRNO | errno.ENOSYS


def test_a_permissive_default_hides_nothing(tmp_path):
    code = build(tmp_path, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "kill", errnoRet=95))
    assert answer(code, KILL) == ERRNO | 95
    assert answer(code, 9999) == ALLOW


def test_names_that_libseccomp_may_not_know(tmp_path):
    code = build(tmp_path, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "mseal", "statmount"))
    assert answer(code, MSEAL) == answer(code, 457) == ERRNO | errno.EPERM
    assert answer(code, MSEAL, X86) == ERRNO | errno.EPERM
    assert answer(code, READ) == ALLOW


def test_x32_and_foreign_architectures_are_refused(tmp_path):
    code = build(tmp_path, "SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "read"))
    assert answer(code, READ | 0x40000000) != ALLOW
    assert answer(code, READ, ARCHITECTURES["SCMP_ARCH_AARCH64"]) != ALLOW


def test_arguments_on_one_index_are_alternatives(tmp_path):
    both = [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 15, "op": "SCMP_CMP_EQ"}]
    code = build(tmp_path, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "kill", args=both))
    assert answer(code, KILL, args=(1, 9)) == answer(code, KILL, args=(1, 15)) == ERRNO | errno.EPERM
    assert answer(code, KILL, args=(1, 10)) == ALLOW


def test_masked_equal(tmp_path):
    args = [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
    code = build(tmp_path, "SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "clone", args=args))
    assert answer(code, 56, args=(17,)) == ALLOW
    assert answer(code, 56, args=(0x10000000 | 17,)) == ERRNO | errno.EPERM


def test_the_default_profile(tmp_path):
    from pycontainerd.lib.oci.seccomp_profile import default_profile

    code = compile_filter(default_profile(["CAP_CHOWN"]), str(tmp_path))
    assert answer(code, READ) == ALLOW
    assert answer(code, 165) == ERRNO | errno.EPERM  # mount
    assert answer(code, 435) == ERRNO | errno.ENOSYS  # clone3
    assert answer(code, 321) == ERRNO | errno.EPERM  # bpf


def test_the_cache_is_used_and_must_be_ours(tmp_path):
    first = build(tmp_path, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "kill"))
    (path,) = tmp_path.glob(".seccomp-*.bpf")
    path.write_bytes(b"\x06\0\0\0\0\0\xff\x7f")
    assert build(tmp_path, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "kill")) == b"\x06\0\0\0\0\0\xff\x7f"
    path.chmod(0o666)
    assert build(tmp_path, "SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "kill")) == first
