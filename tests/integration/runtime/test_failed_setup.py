"""A create or an exec that fails before there is a process leaves the caller, who may live on, no descriptor of it.

Spec: runtime-spec runtime.md#create
"""

from __future__ import annotations

import pytest

from pycontainerd.lib.errdefs import ContainerdError
from pycontainerd.runtime.libcontainer.container import create, load
from pycontainerd.runtime.libcontainer.options import CreateOptions, ExecOptions
from support import leaks
from support.programs import ours
from support.runtime import Runtime


@pytest.fixture
def attempt(short_tmp, bundle):
    """`attempt()`: a create in this process, which must fail; what it said."""

    def once() -> str:
        before = leaks.open_fds()
        with pytest.raises(ContainerdError) as failed:
            create(CreateOptions("c", str(bundle.build()), str(short_tmp / "root")))
        assert leaks.open_fds() == before
        return str(failed.value)

    return once


def joined(bundle, kind: str, path: str) -> None:
    for entry in bundle.linux["namespaces"]:
        if entry["type"] == kind:
            entry["path"] = path


def test_a_namespace_that_is_not_there(bundle, attempt):
    joined(bundle, "ipc", "/proc/self/ns/ipc")
    joined(bundle, "network", "/nonexistent")
    joined(bundle, "uts", "/nonexistent")
    assert "namespace path: lstat /nonexistent" in attempt()


def test_a_plan_that_cannot_be_made(bundle, attempt):
    joined(bundle, "ipc", "/proc/self/ns/ipc")
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/nonexistent"}
    attempt()


def test_an_exec_into_a_cgroup_that_is_not_there(short_tmp, bundle):
    runtime = Runtime(short_tmp / "root", ours("pyrunc"))
    try:
        runtime.start_detached(bundle.args("sleep", "100").build())
        before = leaks.open_fds()
        with pytest.raises(ContainerdError, match="does not exist"):
            load(str(short_tmp / "root"), "c").exec(ExecOptions(bundle.process, cgroups=["nosuch"]))
        assert leaks.open_fds() == before
    finally:
        runtime.clean()
