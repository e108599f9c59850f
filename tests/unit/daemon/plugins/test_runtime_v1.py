"""Runtime v1's command line, from the daemon's settings and a container's runtime options."""

from __future__ import annotations

import hashlib
import os

import pytest

from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.plugins.runtime_v1 import linux
from pycontainerd.daemon.plugins.runtime_v1.command import LinuxBundle, LinuxCommand
from pycontainerd.lib.api.full import runc_v1, runctypes
from pycontainerd.lib.errdefs import InvalidArgument


@pytest.fixture
def bundle(tmp_path):
    return LinuxBundle(f"{tmp_path}/state", f"{tmp_path}/root", "moby", "c1")


def command(bundle: LinuxBundle, **more) -> LinuxCommand:
    return LinuxCommand(binary="/shim", bundle=bundle, address="/c.sock", publish_binary="/c", **more)


def test_the_words_are_in_containerds_order(bundle):
    plain = [
        "/shim",
        "-namespace",
        "moby",
        "-workdir",
        bundle.work_path,
        "-address",
        "/c.sock",
        "-containerd-binary",
        "/c",
    ]
    assert command(bundle).argv() == [*plain, "-runtime-root", "/run/containerd/runc"]
    full = command(bundle, runtime_root="/r", criu="/criu", systemd_cgroup=True, debug=True)
    assert full.argv() == [*plain, "-criu", "/criu", "-runtime-root", "/r", "-systemd-cgroup", "-debug"]


def test_the_socket_is_named_as_by_containerd(bundle):
    name = "unix:///run/containerd/s/" + hashlib.sha256(b"/c.sock/moby/c1").hexdigest()
    assert command(bundle).socket_address() == name


def test_a_bundle_has_no_link_to_its_work_folder(bundle):
    bundle.create(b"{}")
    assert sorted(os.listdir(bundle.path)) == ["config.json", "rootfs"]
    assert os.listdir(bundle.work_path) == []
    bundle.delete()
    assert not os.path.exists(bundle.path)


def typed(message) -> TypedValue:
    return TypedValue(message.DESCRIPTOR.full_name, message.SerializeToString())


def test_runtime_options_of_both_generations():
    old = runctypes.RuncOptions(runtime="crun", runtime_root="/r", criu_path="/criu", systemd_cgroup=True)
    new = runc_v1.Options(binary_name="crun", root="/r", criu_path="/criu", systemd_cgroup=True)
    for options in (old, new):
        assert linux._runtime_options(typed(options)) == ("crun", "/r", "/criu", True)
    assert linux._runtime_options(None) == ("", "", "", False)
    with pytest.raises(InvalidArgument, match=r"unsupported runtime options 'x\.Y'"):
        linux._runtime_options(TypedValue("x.Y", b"\x01"))


def test_the_cgroup_for_the_shim_is_read_from_a_creates_options():
    assert linux._shim_cgroup(typed(runctypes.CreateOptions(io_uid=1))) == ""
    assert linux._shim_cgroup(typed(runctypes.CreateOptions(shim_cgroup="/x"))) == "/x"
    assert linux._shim_cgroup(typed(runc_v1.Options(shim_cgroup="/x"))) == ""
    assert linux._shim_cgroup(None) == ""
