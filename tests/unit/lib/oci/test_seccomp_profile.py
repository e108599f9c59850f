"""The default profile is what containerd 1.6.20 wrote into a real container's spec, but for sockets (security K01, K02)."""

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


SOCKETS = {"socket", "socketcall"}


def without_sockets(profile: dict) -> dict:
    """A profile without what it says of sockets, which newer containerds say otherwise, too."""
    rules = [
        {**rule, "names": [name for name in rule["names"] if name not in SOCKETS]}
        for rule in profile["syscalls"]
    ]
    return {**profile, "syscalls": [rule for rule in rules if rule["names"]]}


def test_sockets_of_the_kernels_crypto_and_of_the_host_are_not_allowed():
    rules = [rule for rule in default_profile([])["syscalls"] if SOCKETS & set(rule["names"])]
    assert [(rule["args"][0]["op"], rule["args"][0]["value"]) for rule in rules[:3]] == [
        ("SCMP_CMP_LT", 38),
        ("SCMP_CMP_EQ", 39),
        ("SCMP_CMP_GT", 40),
    ]
    assert rules[3:] == [{"names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]


def test_default_capabilities():
    wanted = json.loads((GOLDEN / "containerd-1.6.20-default.json").read_text())
    assert without_sockets(default_profile([f"CAP_{name}" for name in DEFAULT], "x86_64")) == without_sockets(
        wanted
    )


def test_every_capability_adds_what_containerd_adds():
    from pycontainerd.lib.linux.capabilities import CAPABILITIES

    wanted = json.loads((GOLDEN / "containerd-1.6.20-privileged.json").read_text())
    assert without_sockets(default_profile(list(CAPABILITIES), "x86_64")) == without_sockets(wanted)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_without_sys_admin_no_namespaces_are_made(machine):
    rules = default_profile([], machine)["syscalls"]
    assert {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38} in rules
    assert not any({"mount", "unshare", "setns", "bpf"} & set(rule["names"]) for rule in rules)
