"""What takes a root with every capability: limits above one's own, and scores that spare a process from the OOM killer.

Spec: runtime-spec config.md#posix-process, #linux-process
"""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from support.runtime import differs

pytestmark = pytest.mark.requires("sys_resource")


@pytest.fixture
def low_limit():
    """This process, and what it starts, may open at most 2,000 files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_limits_above_the_callers(runtime, bundle, low_limit):
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 3000, "hard": 4000}]
    runtime.start_detached(bundle.args("sleep", "100").build())
    assert "3000                 4000" in Path(f"/proc/{runtime.pid()}/limits").read_text()
    soft, hard = runtime.ok("exec", "c", "sh", "-c", "ulimit -Sn; ulimit -Hn").out.split()
    assert hard == "4000"
    assert soft == "3000" or (differs("an exec's soft limit of open files is the config's") and soft == hard)


def test_a_negative_oom_score_for_init_and_execs(runtime, bundle):
    bundle.process["oomScoreAdj"] = -500
    runtime.start_detached(bundle.args("sleep", "100").build())
    assert Path(f"/proc/{runtime.pid()}/oom_score_adj").read_text() == "-500\n"
    assert runtime.ok("exec", "c", "cat", "/proc/self/oom_score_adj").out == "-500\n"
