"""containerd's default AppArmor profile: its rules, and what is said where it can't be loaded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pycontainerd.ctr import apparmor
from pycontainerd.lib.errdefs import InvalidArgument, NotFound, Unknown

if TYPE_CHECKING:
    from pathlib import Path

# From containerd's contrib/apparmor: what a container may do, and what it may not.
ALLOWED = {"network", "capability", "file", "umount"}
SIGNALS = {"signal (receive) peer=unconfined", "signal (receive) peer=runc", "signal (receive) peer=crun", "signal (receive) peer=daemon", "signal (send,receive) peer=web"}  # fmt: skip
DENIED = {
    "@{PROC}/* w", "@{PROC}/sys/[^k]** w", "@{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w", "@{PROC}/sysrq-trigger rwklx", "@{PROC}/kcore rwklx",
    "@{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w", "mount",
    "/sys/[^f]*/** wklx", "/sys/f[^s]*/** wklx", "/sys/fs/[^c]*/** wklx", "/sys/fs/c[^g]*/** wklx", "/sys/fs/cg[^r]*/** wklx",
    "/sys/firmware/** rwklx", "/sys/devices/virtual/powercap/** rwklx", "/sys/kernel/security/** rwklx",
}  # fmt: skip


def rules(text: str) -> set[str]:
    body = re.search(r"\{\n(.*)\n\}\n\Z", text, re.DOTALL)
    assert body
    lines = body[1].splitlines()
    assert all(line.startswith(("  #include ", "  ")) for line in lines)
    assert all(line.endswith(",") for line in lines if "#include" not in line)
    return {line.strip().rstrip(",") for line in lines if "#include" not in line}


def test_the_rules_are_containerds() -> None:
    found = rules(apparmor.profile("web", "daemon", lambda _: False))
    denied = {rule.removeprefix("deny ") for rule in found if rule.startswith("deny ")}
    assert denied == DENIED
    rest = {rule for rule in found if not rule.startswith("deny ")}
    assert rest == ALLOWED | SIGNALS | {"ptrace (trace,tracedby,read,readby) peer=web"}


def test_what_the_machine_has_is_included() -> None:
    with_all = apparmor.profile("web", "unconfined", lambda _: True)
    assert with_all.startswith(
        "abi <abi/3.0>,\n#include <tunables/global>\nprofile web flags=(attach_disconnected,mediate_deleted) {\n"
        "  #include <abstractions/base>\n"
    )
    without = apparmor.profile("web", "unconfined", lambda _: False)
    assert without.startswith("@{PROC}=/proc/\nprofile web ")
    assert "include" not in without
    assert without.count("peer=unconfined") == 1


@pytest.mark.parametrize("name", ["", "a b", "x}", "a\nb", "a/b", "é"])
def test_a_name_can_hold_no_rules(name: str) -> None:
    with pytest.raises(InvalidArgument, match="AppArmor profile name"):
        apparmor.require_loaded(name)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel with one profile; apparmor_parser is what a test puts into bin."""
    (tmp_path / "profiles").write_text("docker-default (enforce)\nother (complain)\n")
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(apparmor, "_LOADED", str(tmp_path / "profiles"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def parser(kernel: Path, script: str) -> None:
    path = kernel / "bin/apparmor_parser"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_loaded_profile_is_left_alone(kernel: Path) -> None:
    apparmor.require_loaded("docker-default")
    assert not apparmor.is_loaded("docker")


def test_a_new_one_goes_through_the_parser(kernel: Path) -> None:
    parser(kernel, f'echo "$1" > {kernel}/flags; cp "$2" {kernel}/text')
    apparmor.require_loaded("web")
    assert (kernel / "flags").read_text() == "-Kr\n"
    assert "profile web flags=" in (kernel / "text").read_text()
    assert sorted(path.name for path in kernel.iterdir()) == [
        "bin",
        "flags",
        "profiles",
        "text",
    ]  # nothing is left


def test_what_the_parser_says_is_said(kernel: Path) -> None:
    parser(kernel, "echo no rights; exit 3")
    with pytest.raises(
        Unknown, match=r'load apparmor profile .*/web\w+: parser error\("no rights"\): exit status 3'
    ):
        apparmor.require_loaded("web")


def test_without_the_parser(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{kernel}/bin")
    with pytest.raises(NotFound, match=r'exec: "apparmor_parser": executable file not found in \$PATH'):
        apparmor.require_loaded("web")


def test_without_apparmor(kernel: Path) -> None:
    (kernel / "profiles").unlink()
    with pytest.raises(Unknown, match=r"open .*/profiles: no such file or directory"):
        apparmor.require_loaded("web")
