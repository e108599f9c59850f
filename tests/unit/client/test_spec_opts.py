"""The default Spec, and that no option touches its input."""

from __future__ import annotations

import copy
import json

import pytest

from pycontainerd.client import spec_opts
from pycontainerd.lib.errdefs import InvalidArgument


def test_s024_to_s036_the_default() -> None:
    spec = spec_opts.with_default_devices(spec_opts.default_spec("default", "u1"))
    assert list(spec_opts.ordered(spec)) == ["ociVersion", "process", "root", "mounts", "linux"]
    assert list(spec["process"]["capabilities"]) == [
        "bounding",
        "effective",
        "permitted",
    ]  # nothing inheritable
    assert len(spec["process"]["capabilities"]["bounding"]) == 14
    assert [mount["destination"] for mount in spec["mounts"]] == ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/run"]  # fmt: skip
    assert spec["linux"]["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert spec["linux"]["cgroupsPath"] == "/default/u1"
    assert [entry["type"] for entry in spec["linux"]["namespaces"]] == [
        "pid",
        "ipc",
        "uts",
        "mount",
        "network",
    ]
    assert (len(spec["linux"]["maskedPaths"]), len(spec["linux"]["readonlyPaths"])) == (10, 5)


def test_options_leave_their_input_alone() -> None:
    spec = spec_opts.default_spec("n", "i")
    before = copy.deepcopy(spec)
    for change in (
        lambda: spec_opts.with_terminal(spec),
        lambda: spec_opts.with_default_devices(spec),
        lambda: spec_opts.with_namespace(spec, "network", "/x"),
        lambda: spec_opts.without_namespace(spec, "pid"),
        lambda: spec_opts.with_changed_capabilities(spec, ["CAP_X"], ["CAP_KILL"]),
        lambda: spec_opts.with_resources(spec, "memory", limit=1),
        lambda: spec_opts.with_annotations(spec, {"a": "b"}),
        lambda: spec_opts.with_all_devices_allowed(spec),
        lambda: spec_opts.with_writable(spec, "sysfs"),
    ):
        assert change() != before
        assert spec == before


def test_env_is_replaced_appended_and_removed() -> None:
    assert spec_opts.merge_env(["A=1", "B=2"], ["B=3", "C=4", "A"]) == ["B=3", "C=4"]


def test_encoding_equals_gos() -> None:
    document = json.loads(
        spec_opts.encode(
            {"root": {"readonly": False, "path": "r"}, "ociVersion": "1", "annotations": {"a": "<b>"}}
        )
    )
    assert list(document) == ["ociVersion", "root", "annotations"]
    assert document["root"] == {"path": "r"}
    assert b"\\u003cb\\u003e" in spec_opts.encode({"annotations": {"a": "<b>"}})


def test_mounts_of_the_command_line() -> None:
    assert spec_opts.parse_mount("type=bind,src=/a,dst=/b,options=rbind:ro") == {
        "type": "bind", "source": "/a", "destination": "/b", "options": ["rbind", "ro"],
    }  # fmt: skip
    for bad in ("x", "type", "color=red"):
        with pytest.raises(InvalidArgument):
            spec_opts.parse_mount(bad)
