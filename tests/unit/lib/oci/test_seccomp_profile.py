"""The default profile equals what containerd 1.6.20 wrote into a real container's spec."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pycontainerd.lib.oci.seccomp_profile import default_profile

GOLDEN = Path(__file__).resolve().parents[3] / "golden/seccomp"
DEFAULT = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
]


def test_default_capabilities():
    wanted = json.loads((GOLDEN / "containerd-1.6.20-default.json").read_text())
    assert default_profile([f"CAP_{name}" for name in DEFAULT], "x86_64") == wanted


def test_every_capability_adds_what_containerd_adds():
    from pycontainerd.lib.linux.capabilities import CAPABILITIES

    wanted = json.loads((GOLDEN / "containerd-1.6.20-privileged.json").read_text())
    assert default_profile(list(CAPABILITIES), "x86_64") == wanted


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_without_sys_admin_no_namespaces_are_made(machine):
    rules = default_profile([], machine)["syscalls"]
    assert {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38} in rules
    assert not any({"mount", "unshare", "setns", "bpf"} & set(rule["names"]) for rule in rules)
