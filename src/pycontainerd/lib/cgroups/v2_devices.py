"""Device rules on version 2: an eBPF program on the cgroup.

Spec: cgroup-v2.rst#device-controller; linux include/uapi/linux/bpf.h (bpf_cgroup_dev_ctx)
"""

from __future__ import annotations

import os

from pycontainerd.lib.cgroups.devices import WILDCARD, DeviceProgram, fold
from pycontainerd.lib.linux import bpf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KINDS = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_MKNOD, _READ, _WRITE
_ALL_ACCESS = 7


def assemble(program: DeviceProgram) -> bytes:
    """The instructions. The context is {u32 access_type, major, minor}; access_type is access << 16 | kind.

    A request passes an allowing exception only when all that it asks for is in it, and is stopped by a denying one
    when any of it is.
    """
    r0, r2, r3, r4, r5, ctx = 0, 2, 3, 4, 5, 1
    code = [
        bpf.load_word(r2, ctx, 0),
        bpf.move(r3, r2),
        bpf.and_value(r2, 0xFFFF),
        bpf.shift_right(r3, 16),
        bpf.load_word(r4, ctx, 4),
        bpf.load_word(r5, ctx, 8),
    ]
    for (kind, major, minor), access in program.exceptions.items():
        mask = sum(_ACCESS[letter] for letter in access)
        verdict = [bpf.move_value(r0, int(not program.default_allow)), bpf.exit_()]
        tests: list[list[bytes]] = [[bpf.jump_if_not_equal(r2, _KINDS[kind], 0)]]
        if mask != _ALL_ACCESS:
            if program.default_allow:  # denies when any denied access is asked for
                tests.append([bpf.move(r0, r3), bpf.and_value(r0, mask), bpf.jump_if_equal(r0, 0, 0)])
            else:  # allows when nothing else is asked for
                tests.append(
                    [
                        bpf.move(r0, r3),
                        bpf.and_value(r0, ~mask & _ALL_ACCESS),
                        bpf.jump_if_not_equal(r0, 0, 0),
                    ]
                )
        if major != WILDCARD:
            tests.append([bpf.jump_if_not_equal(r4, major, 0)])
        if minor != WILDCARD:
            tests.append([bpf.jump_if_not_equal(r5, minor, 0)])
        block = [item for test in tests for item in test]
        last = {id(test[-1]) for test in tests}
        size = len(block) + len(verdict)
        for at, item in enumerate(block):
            code.append(bpf.with_offset(item, size - at - 1) if id(item) in last else item)
        code += verdict
    code += [bpf.move_value(r0, int(program.default_allow)), bpf.exit_()]
    return b"".join(code)


def attach_devices(folder: str, rules: list[dict[str, Any]]) -> None:
    """Loads and attaches the program, then takes off those that were there: never a moment without one."""
    cgroup_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        old = bpf.query_programs(cgroup_fd, bpf.BPF_CGROUP_DEVICE)
        program_fd = bpf.load_program(bpf.BPF_PROG_TYPE_CGROUP_DEVICE, assemble(fold(rules)))
        try:
            bpf.attach(cgroup_fd, program_fd, bpf.BPF_CGROUP_DEVICE, flags=bpf.BPF_F_ALLOW_MULTI)
        finally:
            os.close(program_fd)
        for program_id in old:
            old_fd = bpf.open_program(program_id)
            try:
                bpf.detach(cgroup_fd, old_fd, bpf.BPF_CGROUP_DEVICE)
            finally:
                os.close(old_fd)
    finally:
        os.close(cgroup_fd)
