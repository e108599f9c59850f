"""System call numbers of aarch64.

Spec: linux include/uapi/asm-generic/unistd.h
"""

from __future__ import annotations

NUMBERS = {
    "rt_sigaction": 134,
    "personality": 92,
    "pivot_root": 41,
    "setxattr": 5,
    "keyctl": 219,
    "ioprio_set": 30,
    "mknodat": 33,
    "unshare": 97,
    "setns": 268,
    "sched_setaffinity": 122,
    "sched_setattr": 274,
    "seccomp": 277,
    "bpf": 280,
    "capset": 91,
    "setgroups": 159,
    "setresuid": 147,
    "setresgid": 149,
    "signalfd4": 74,
    "set_mempolicy": 237,
}
