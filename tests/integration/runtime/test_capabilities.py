"""Capability sets, no_new_privs and groups.

Spec: runtime-spec config.md#linux-process; security A1 R13, R25
"""

from __future__ import annotations

import pytest

from support.runtime import differs


def status(text: str) -> dict[str, str]:
    return {line.split(":")[0]: line.split(":")[1].strip() for line in text.splitlines() if ":" in line}


def test_sets_are_the_configs(runtime, bundle):
    bundle.process["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL"],
        "permitted": ["CAP_CHOWN"],
        "effective": ["CAP_CHOWN"],
    }
    found = status(runtime.run(bundle.args("cat", "/proc/self/status").build()).out)
    assert found["CapBnd"] == f"{1 << 0 | 1 << 5:016x}"
    assert found["CapPrm"] == found["CapEff"] == f"{1:016x}"
    assert found["CapInh"] == found["CapAmb"] == "0" * 16


def test_ambient_capabilities_reach_another_user(runtime, bundle):
    sets = {
        name: ["CAP_NET_RAW"] for name in ("bounding", "permitted", "effective", "inheritable", "ambient")
    }
    bundle.process.update(capabilities=sets, user={"uid": 1000, "gid": 1000})
    found = status(runtime.run(bundle.args("cat", "/proc/self/status").build()).out)
    assert found["CapEff"] == found["CapAmb"] == f"{1 << 13:016x}"


def test_another_user_has_no_capabilities(runtime, bundle):
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    found = status(runtime.run(bundle.args("cat", "/proc/self/status").build()).out)
    assert found["CapEff"] == found["CapPrm"] == "0" * 16


def test_unknown_capabilities_are_a_warning(runtime, bundle):
    bundle.process["capabilities"]["bounding"].append("CAP_X")
    done = runtime.run(bundle.args("true").build())
    assert done.code == 0
    assert "ignoring unknown or unavailable capabilities: [CAP_X]" in done.err


def test_no_new_privs(runtime, bundle):
    assert status(runtime.run(bundle.args("cat", "/proc/self/status").build()).out)["NoNewPrivs"] == "1"


def test_without_no_new_privs(runtime, bundle):
    bundle.process["noNewPrivileges"] = False
    assert status(runtime.run(bundle.args("cat", "/proc/self/status").build()).out)["NoNewPrivs"] == "0"


def test_supplementary_groups_hold_the_primary_one(runtime, bundle):
    """R25: a file that denies a group denies it to its members."""
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [2000, 3000]}
    found = runtime.run(bundle.args("id", "-G").build()).out.split()
    assert sorted(found) == ["1000", "2000", "3000"]


@pytest.mark.parametrize("extra", [[], [3000]])
def test_groups_are_the_configs_and_none_of_the_images(runtime, bundle, extra):
    """The image's /etc/group makes this user a member of 2000; who wants that writes it into the config."""
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": extra}
    bundle.args("sleep", "100")
    runtime.start_detached(bundle.build())
    for words in ((), ("--user", "1000:1000")):
        groups = runtime.ok("exec", *words, "c", "grep", "Groups", "/proc/self/status").out.split()[1:]
        primary = set() if differs("the primary group is a supplementary one, too") else {"1000"}
        assert {int(group) for group in groups} == {*map(int, primary), *extra}
