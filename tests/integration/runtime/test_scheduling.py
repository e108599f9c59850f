"""process.scheduler, ioPriority, execCPUAffinity and linux.memoryPolicy; the steps are those of runc 1.5's own tests.

runc 1.1, the peer here, doesn't know them yet: only that a container with them works under it, and that it can exec in
one of ours, can be seen on it.

Spec: runtime-spec config.md#linux-process, config-linux.md#memory-policy
"""

from __future__ import annotations

import json
import os

import pytest

from support.programs import peer
from support.runtime import Runtime, is_ours, ours_only

newer = ours_only("scheduler, ioPriority, execCPUAffinity and memoryPolicy")
IONICE = ("busybox", "ionice")
POLICY = "numa=$(head -n 1 /proc/self/numa_maps); set -- $numa; echo $2"


@pytest.fixture
def execute(runtime, tmp_path):
    """Runs a process document in the container; its result."""

    def execute(process, *flags):
        path = tmp_path / "process.json"
        path.write_text(json.dumps({"cwd": "/", "env": ["PATH=/bin"], **process}))
        return runtime("exec", *flags, "--process", str(path), "c")

    return execute


def policy_of(pid: int) -> int:
    """The scheduling policy that the kernel has for a process (SCHED_RESET_ON_FORK's bit beside it)."""
    return os.sched_getscheduler(pid)


@newer
def test_scheduler_of_init_and_of_execs(runtime, bundle, execute, tmp_path):
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "priority": 0, "nice": 19}
    runtime.start_detached(bundle.args("sleep", "100").build())
    pid = runtime.pid()
    assert (policy_of(pid), os.getpriority(os.PRIO_PROCESS, pid)) == (os.SCHED_BATCH, 19)
    grep = ["grep", "^policy", "/proc/self/sched"]
    assert execute({"args": grep}).out.split() == ["policy", ":", "3"]
    assert runtime.ok("exec", "c", *grep).out.split() == ["policy", ":", "3"]
    deadline = {
        "policy": "SCHED_DEADLINE",
        "flags": ["SCHED_FLAG_RESET_ON_FORK"],
        "runtime": 42000,
        "deadline": 100000,
        "period": 1000000,
    }
    done = execute({"args": grep, "scheduler": deadline})
    assert done.out.split() == ["policy", ":", "6"], done


@newer
def test_a_deadline_and_a_cpuset_do_not_go_together(runtime, bundle):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")
    bundle.linux.setdefault("resources", {})["cpu"] = {"cpus": "0"}
    bundle.process["scheduler"] = {
        "policy": "SCHED_DEADLINE",
        "runtime": 42000,
        "deadline": 1000000,
        "period": 1000000,
    }
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert (
        "error during container init: process scheduler can't be used together with AllowedCPUs" in done.err
    )
    assert runtime.ok("list", "-q").out == ""


@newer
def test_io_priority_of_init_and_of_execs(runtime, bundle, execute):
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 4}
    runtime.start_detached(bundle.args("sleep", "100").build())
    assert runtime.ok("exec", "c", *IONICE, "-p", "1").out == "best-effort: prio 4\n"
    assert execute({"args": [*IONICE]}).out == "best-effort: prio 4\n"
    idle = {"args": [*IONICE], "ioPriority": {"class": "IOPRIO_CLASS_IDLE"}}
    assert execute(idle).out.startswith("idle")


@newer
@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}, "prefer=relative:0"),
        ({"mode": "MPOL_DEFAULT"}, "default"),
    ],
)
def test_memory_policy_of_init_and_of_execs(runtime, bundle, execute, policy, shown):
    bundle.linux["memoryPolicy"] = policy
    script = f"{POLICY}; exec sleep 100"
    runtime.start_detached(bundle.sh(script).build())
    with open(f"/proc/{runtime.pid()}/numa_maps") as file:
        assert file.readline().split()[1] == shown
    assert execute({"args": ["sh", "-c", POLICY]}).out == f"{shown}\n"


@newer
def test_what_the_kernel_refuses_is_said_in_its_words(runtime, bundle):
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "1000"}
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "error during container init: set_mempolicy: invalid argument" in done.err


def cpus_of(text: str) -> str:
    return text.split("Cpus_allowed_list:")[1].split(maxsplit=1)[0]


STATUS = ["cat", "/proc/self/status"]


@newer
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
class TestAffinity:
    def test_final_set_of_an_exec(self, runtime, bundle, execute):
        bundle.process["execCPUAffinity"] = {"initial": "0", "final": "1"}
        runtime.start_detached(bundle.args("sleep", "100").build())
        assert len(os.sched_getaffinity(runtime.pid())) > 1  # init itself isn't meant
        assert cpus_of(execute({"args": STATUS}).out) == "1"
        assert cpus_of(runtime.ok("exec", "c", *STATUS).out) == "1"
        own = {"args": STATUS, "execCPUAffinity": {"final": "0"}}
        assert cpus_of(execute(own).out) == "0"

    # On version 2 the clone enters the cpuset, and Linux 6.1 gives whoever enters one all of its CPUs.
    @pytest.mark.requires("cgroup_v1")
    def test_the_initial_set_stays_without_a_final_one(self, runtime, bundle, execute):
        runtime.start_detached(bundle.args("sleep", "100").build())
        assert cpus_of(execute({"args": STATUS, "execCPUAffinity": {"initial": "1"}}).out) == "1"

    def test_the_initial_set_may_lie_outside_of_the_containers_cpuset(self, runtime, bundle, execute):
        bundle.linux.setdefault("resources", {})["cpu"] = {"cpus": "0", "mems": "0"}
        runtime.start_detached(bundle.args("sleep", "100").build())
        done = execute({"args": STATUS, "execCPUAffinity": {"initial": "1", "final": "0"}})
        assert cpus_of(done.out) == "0", done

    def test_a_final_set_outside_of_the_cpuset_fails_in_runcs_words(self, runtime, bundle, execute):
        bundle.linux.setdefault("resources", {})["cpu"] = {"cpus": "0", "mems": "0"}
        runtime.start_detached(bundle.args("sleep", "100").build())
        done = execute({"args": STATUS, "execCPUAffinity": {"final": "1"}})
        assert done.code == 255
        assert "error setting final CPU affinity: sched_setaffinity: invalid argument" in done.err

    def test_without_one_the_callers_own_affinity_is_not_inherited(self, runtime, bundle):
        def bound() -> None:
            os.sched_setaffinity(0, {0})

        bundle.args("sleep", "100")
        everything = len(os.sched_getaffinity(0))
        runtime.detached("run", "--detach", "--bundle", str(bundle.build()), "c", preexec_fn=bound)
        assert len(os.sched_getaffinity(runtime.pid())) == everything
        done = runtime.ok("exec", "c", *STATUS, preexec_fn=bound)
        assert cpus_of(done.out) != "0"


@newer
def test_runc_passes_over_what_it_does_not_know(runtime, bundle):
    bundle.process.update(
        ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 4},
        scheduler={"policy": "SCHED_BATCH"},
        execCPUAffinity={"final": "0"},
    )
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_PREFERRED", "nodes": "0"}
    runtime.start_detached(bundle.args("sleep", "100").build())
    stored = json.loads((runtime.root / "c/state.json").read_text())["config"]
    assert stored["io_priority"] == {"class": "IOPRIO_CLASS_BE", "priority": 4}
    assert stored["scheduler"]["policy"] == "SCHED_BATCH"
    assert stored["exec_cpu_affinity"] == {"Initial": None, "Final": [1]}
    assert stored["memory_policy"] == {"mode": 1, "nodes": [1]}
    runc = Runtime(runtime.root, peer("runc"))
    assert runc.state()["status"] == "running"
    runc.ok("delete", "--force", "c")


def test_an_invalid_value_makes_nothing(runtime, bundle):
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 8}
    bundle.process["args"] = ["true"]
    done = runtime.run(bundle.build())
    if not is_ours():
        assert done.code == 0  # runc 1.1 ignores it
        return
    assert done.code == 1
    assert "process.ioPriority: invalid ioPriority.Priority: 8" in done.err
    assert not (runtime.root / "c").exists()
