"""System call numbers of x86_64.

Spec: linux arch/x86/entry/syscalls/syscall_64.tbl
"""

from __future__ import annotations

NUMBERS = {
    "rt_sigaction": 13,
    "personality": 135,
    "pivot_root": 155,
    "setxattr": 188,
    "keyctl": 250,
    "ioprio_set": 251,
    "mknodat": 259,
    "unshare": 272,
    "setns": 308,
    "sched_setaffinity": 203,
    "sched_setattr": 314,
    "seccomp": 317,
    "bpf": 321,
    "capset": 126,
    "setgroups": 116,
    "setresuid": 117,
    "setresgid": 119,
    "signalfd4": 289,
    "set_mempolicy": 238,
}
