"""config.json to Config: the rules between fields, and what is refused rather than ignored."""

from __future__ import annotations

import copy

import pytest

from pycontainerd.lib.cgroups import v1_resources, v2_resources
from pycontainerd.lib.errdefs import InvalidArgument, NotFound
from pycontainerd.lib.oci.document import dumps, loads
from pycontainerd.lib.oci.template import template
from pycontainerd.runtime.libcontainer import runc_config
from pycontainerd.runtime.libcontainer.config import Config, load_spec
from pycontainerd.runtime.libcontainer.init.program import OPERATIONS
from pycontainerd.runtime.libcontainer.state import require_id


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "rootfs").mkdir()
    made = template()
    made["root"]["path"] = str((tmp_path / "rootfs").resolve())
    return made


def compile_(spec):
    return Config(copy.deepcopy(spec), id="c", bundle="/b")


def test_the_template_is_valid(spec):
    config = compile_(spec)
    assert config.creates("pid")
    assert not config.creates("user")
    assert config.labels() == ["bundle=/b"]
    assert {device.path for device in config.devices} >= {"/dev/null", "/dev/urandom"}


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (("process", "user"), {"uid": 4294967295}, "is not an id"),
        (("linux", "cgroupsPath"), "/a/../b", r"must not contain \.\."),
        (("linux", "devices"), [{"path": "dev/x", "type": "c"}], "is not absolute"),
        (("linux", "devices"), [{"path": "/dev/x", "type": "z"}], "is not one of"),
        (("linux", "devices"), [{"path": "/dev/x", "type": "c", "major": -1}], "is not a device number"),
        (("hooks",), {"prestart": [{"path": "x"}]}, "is not absolute"),
        (("hooks",), {"prestart": [{"path": "/x", "timeout": 0}]}, "must be greater than zero"),
        (("hooks",), {"poststop": [{"path": "/x", "args": [""]}]}, r"poststop\[0\].args\[0\]"),
        (("hooks",), {"poststop": [{"path": "/x", "env": ["A=b", "=c"]}]}, r"poststop\[0\].env\[1\]"),
        (("process", "oomScoreAdj"), 1001, r"process.oomScoreAdj: 1001"),
        (("process", "oomScoreAdj"), -1001, r"process.oomScoreAdj: -1001"),
        (("process", "env"), ["A=b", "C"], r"process.env\[1\]: .*missing '='"),
        (("linux", "resources"), {"devices": [{"allow": True}]}, r"linux.resources.devices\[0\]"),
        (("mounts",), [{"type": "proc"}], r"mounts\[0\].destination"),
        (("linux", "timeOffsets"), {"boottime": {"secs": 1}}, "time namespace isn't created"),
        (
            ("linux", "uidMappings"),
            [{"containerID": 0, "hostID": 0, "size": 1}],
            "user namespace isn't enabled",
        ),
        (("linux", "sysctl"), {"kernel.hostname": "x"}, "conflicts with the OCI"),
        (("linux", "sysctl"), {"net/../kernel/core_pattern": "x"}, "is not a sysctl name"),
        (("linux", "mountLabel"), "x", "selinux is disabled"),
    ],
)
def test_refused(spec, path, value, text):
    place = spec
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(InvalidArgument, match=text):
        compile_(spec)


@pytest.mark.parametrize(("key", "space"), [("net.ipv4.ip_forward", "network"), ("kernel.sem", "ipc")])
def test_sysctls_need_their_namespace(spec, key, space):
    spec["linux"]["sysctl"] = {key: "1"}
    compile_(spec)
    spec["linux"]["namespaces"] = [item for item in spec["linux"]["namespaces"] if item["type"] != space]
    with pytest.raises(InvalidArgument):
        compile_(spec)


def test_a_bundle_without_config(tmp_path):
    with pytest.raises(NotFound, match=r"JSON specification file config\.json not found"):
        load_spec(str(tmp_path))


def test_a_rootfs_that_is_a_symlink_is_refused(spec, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "rootfs")
    spec["root"]["path"] = str(tmp_path.resolve() / "link")
    with pytest.raises(InvalidArgument, match="or a symlink"):
        compile_(spec)


def test_ids_of_a_user_namespace_are_mapped(spec):
    spec["linux"]["namespaces"].append({"type": "user"})
    for key in ("uidMappings", "gidMappings"):
        spec["linux"][key] = [{"containerID": 0, "hostID": 1000, "size": 10}]
    config = compile_(spec)
    assert config.host_uid(3) == 1003
    with pytest.raises(InvalidArgument, match="not mapped"):
        config.host_gid(10)


def test_the_stored_config_is_read_back(spec):
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {
                "names": ["kill"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 1, "value": 9, "valueTwo": 0, "op": "SCMP_CMP_NE"}],
            }
        ],
    }
    spec["hooks"] = {"poststop": [{"path": "/x", "args": ["x"], "env": ["A=b"], "timeout": 3}]}
    document = loads(dumps(runc_config.to_runc(compile_(spec))))
    found = runc_config.seccomp_of(document)
    assert found["defaultErrnoRet"] == 38
    assert found["syscalls"] == spec["linux"]["seccomp"]["syscalls"]
    assert runc_config.hooks_of(document, "poststop") == [
        {"path": "/x", "args": ["x"], "env": ["A=b"], "timeout": 3.0}
    ]
    assert runc_config.capabilities_of(document)["bounding"] == spec["process"]["capabilities"]["bounding"]


@pytest.mark.parametrize("id", ["a", "A-b_c.d+e", "0", "x" * 1024])
def test_good_ids(id):
    require_id(id)


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "a b", "ä", "a\n", "x" * 1025])
def test_bad_ids(id):
    with pytest.raises(InvalidArgument, match="invalid container ID format"):
        require_id(id)


def test_the_allow_list_is_what_it_is():
    """A new operation is a decision about rule 9: it is made here, too."""
    import pycontainerd.runtime.libcontainer.init.joined
    import pycontainerd.runtime.libcontainer.scheduling  # noqa: F401 - it adds four, as joined adds three

    assert sorted(OPERATIONS) == [
        "ambient", "await_go", "capset", "chdir", "chdir_early", "check_cwd", "close_ranges", "drop_bounding", "execve",
        "give_stdio", "hook", "leave_on_signals", "load_seccomp", "mount_flags", "move_root", "open_fifo", "pivot_root",
        "prctl", "ready", "reset_signals", "root_readonly", "search_path", "send_listener",
        "set_affinity", "set_io_priority", "set_memory_policy", "set_scheduler", "setgid", "setgroups", "setns",
        "setuid", "take_terminal", "umask", "write",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "resources",
    [
        {"devices": [{"access": "rwm"}]},
        {"hugepageLimits": [{}]},
        {"network": {"priorities": [{}]}},
        {"blockIO": {"weightDevice": [{}], "throttleReadBpsDevice": [{}]}},
        {"rdma": {"x": {}}},
    ],
)
def test_what_is_left_out_of_an_entry_is_nothing_as_in_runc(spec, resources):
    spec["process"]["consoleSize"] = {"height": 5}
    spec["linux"]["resources"] = resources
    config = compile_(spec)
    assert config.process.console_size == (5, 0)
    assert runc_config.to_runc(config)["cgroups"]
    v1_resources.plan(resources)
    v2_resources.plan(resources)


@pytest.mark.parametrize(
    "empty", [{}, {"architectures": ["SCMP_ARCH_X86"]}, {"defaultAction": "", "syscalls": []}]
)
def test_a_filter_that_says_nothing_is_none(spec, empty):
    spec["linux"]["seccomp"] = empty
    assert compile_(spec).seccomp is None


@pytest.mark.parametrize(
    ("filter_", "text"),
    [
        ({"defaultAction": "X"}, "string X is not a valid action for seccomp"),
        ({"syscalls": [{"names": ["uname"], "action": "SCMP_ACT_LOG"}]}, "string  is not a valid action"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["uname"]}]},
            "string  is not a valid action",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["uname"], "action": "SCMP_ACT_LOG", "args": [{"op": "X"}]}],
            },
            "string X is not a valid operator for seccomp",
        ),
    ],
)
def test_words_of_seccomp_are_judged_before_anything_is_made(spec, filter_, text):
    spec["linux"]["seccomp"] = filter_
    with pytest.raises(InvalidArgument, match=text):
        runc_config.to_runc(compile_(spec))
