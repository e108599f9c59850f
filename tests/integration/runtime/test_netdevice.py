"""linux.netDevices; the steps are those of runc 1.5's own tests (netdev.bats), for runc 1.1 does not know it.

The host of each test is a network namespace of its own, in which the runtime is started.

Spec: runtime-spec config-linux.md#network-devices
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from support.runtime import Result, Runtime, ours_only

pytestmark = [
    pytest.mark.requires("root"),
    ours_only("network devices move"),
]


class NamespacedRuntime(Runtime):
    """The runtime inside the network namespace of a process."""

    def __init__(self, root, pid: int):
        super().__init__(root)
        self.enter = ["nsenter", "--net", "--target", str(pid)]

    def argv(self, *words):
        return [*self.enter, *super().argv(*words)]

    def ip(self, *words) -> str:
        return subprocess.run([*self.enter, "ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def runtime(short_tmp):
    """Two veth devices, one of which will move, in a network namespace that nothing else is in."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    made = NamespacedRuntime(short_tmp / "root", holder.pid)
    try:
        made.ip("link", "add", "moving", "type", "veth", "peer", "name", "staying")
        yield made
        made.clean()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def show(runtime, bundle, name="moving") -> Result:
    bundle.args("busybox", "ip", "address", "show", "dev", name)
    done = runtime.run(bundle.build())
    assert done.code == 0, done
    return done.out


def links(runtime) -> set[str]:
    return {line.split(":")[1].split("@")[0].strip() for line in runtime.ip("-o", "link").splitlines()}


def test_a_device_moves_and_is_up(runtime, bundle):
    bundle.linux["netDevices"] = {"moving": {}}
    out = show(runtime, bundle)
    assert "UP" in out.splitlines()[0].split("<")[1].split(">")[0].split(",")
    assert "moving" not in links(runtime)


def test_it_takes_its_name_mac_mtu_and_global_addresses_along(runtime, bundle):
    runtime.ip("link", "set", "moving", "mtu", "1450", "address", "00:11:22:33:44:55")
    runtime.ip("address", "add", "10.1.2.3/24", "broadcast", "10.1.2.255", "dev", "moving")
    runtime.ip("address", "add", "10.9.0.1", "peer", "10.9.0.2/32", "dev", "moving")
    runtime.ip("address", "add", "169.254.7.7/16", "scope", "link", "dev", "moving")
    runtime.ip("address", "add", "10.5.5.5/24", "valid_lft", "1000", "preferred_lft", "1000", "dev", "moving")
    runtime.ip("address", "add", "2001:db8::5/64", "nodad", "dev", "moving")
    runtime.ip("link", "set", "moving", "up")
    bundle.linux["netDevices"] = {"moving": {"name": "inside"}}
    out = show(runtime, bundle, "inside")
    assert "mtu 1450" in out
    assert "00:11:22:33:44:55" in out
    assert "inet 10.1.2.3/24 brd 10.1.2.255 scope global inside" in out
    assert "inet 10.9.0.1 peer 10.9.0.2/32 scope global inside" in out
    assert "inet6 2001:db8::5/64 scope global" in out
    assert "169.254.7.7" not in out
    assert "10.5.5.5" not in out


def test_into_a_namespace_that_was_there_before(runtime, bundle):
    """It outlives the container, and with it the device."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            bundle.with_namespace("network", f"/proc/{other.pid}/ns/net")
            bundle.linux["netDevices"] = {"moving": {"name": "inside"}}
            show(runtime, bundle, "inside")
            left = subprocess.run(
                ["nsenter", "--net", "--target", str(other.pid), "ip", "-o", "link"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            assert "inside" in left
        finally:
            other.kill()


@pytest.mark.requires("userns")
def test_in_a_user_namespace(runtime, bundle):
    bundle.with_userns()
    bundle.linux["netDevices"] = {"moving": {"name": "inside"}}
    assert "inside" in show(runtime, bundle, "inside")


def test_sysctls_of_a_moved_device(runtime, bundle):
    bundle.linux["netDevices"] = {"moving": {"name": "inside"}}
    bundle.linux["sysctl"] = {"net.ipv4.conf.inside.forwarding": "1"}
    done = runtime.run(bundle.args("cat", "/proc/sys/net/ipv4/conf/inside/forwarding").build())
    assert (done.code, done.out) == (0, "1\n"), done


def test_a_device_that_is_not_there(runtime, bundle):
    bundle.linux["netDevices"] = {"nosuch": {}}
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "error creating network interfaces: move netDevice nosuch to namespace /proc/" in done.err
    assert "link not found for interface nosuch on runtime namespace: no such device" in done.err
    assert runtime.ok("list", "-q").out == ""


def test_a_name_that_is_taken(runtime, bundle):
    bundle.linux["netDevices"] = {"moving": {"name": "lo"}}
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "fail to move network device moving to network namespace: file exists" in done.err
    assert "moving" in links(runtime)


def test_refused_before_anything_is_made(runtime, bundle):
    bundle.linux["netDevices"] = {"moving": {"name": "a/b"}}
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert 'linux.netDevices: invalid network device name \\"a/b\\"' in done.err
    assert not (runtime.root / "c").exists()
    bundle.linux["netDevices"] = {"moving": {}}
    done = runtime("--rootless", "true", "run", "--bundle", str(bundle.build()), "c")
    assert "network devices are not supported for rootless containers" in done.err
    bundle.without_namespace("network")
    assert "without a NET namespace" in runtime.run(bundle.build()).err


def test_the_state_holds_them_in_runcs_words(runtime, bundle):
    bundle.linux["netDevices"] = {"moving": {"name": "inside"}, "staying": {}}
    runtime.create(bundle.args("true").build())
    stored = json.loads((runtime.root / "c/state.json").read_text())["config"]
    assert stored["netDevices"] == {"moving": {"name": "inside"}, "staying": {}}


def test_the_runtime_stays_in_its_own_namespace(runtime, bundle, short_tmp):
    """A hook of the runtime's namespace still sees what stayed."""
    hook = short_tmp / "hook"
    hook.write_text(f"#!/bin/sh\nip -o link > {short_tmp}/seen\n")
    os.chmod(hook, 0o755)
    bundle.spec["hooks"] = {"createRuntime": [{"path": str(hook), "env": [f"PATH={os.environ['PATH']}"]}]}
    bundle.linux["netDevices"] = {"moving": {}}
    show(runtime, bundle)
    seen = (short_tmp / "seen").read_text()
    assert "staying" in seen
    assert "moving" not in seen.replace("staying@moving", "")
