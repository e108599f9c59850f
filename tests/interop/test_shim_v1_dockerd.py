"""dockerd's name for runtime v1, `--runtime io.containerd.runtime.v1.linux`, on our shim and on both daemons (S005, S095)."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import pytest

from support.docker import Docker
from support.walkthrough import wait_until

pytestmark = [pytest.mark.requires("root", "cgroup_v1"), pytest.mark.timeout(120)]

V1 = "--runtime=io.containerd.runtime.v1.linux"


@pytest.fixture(scope="module", params=["real", "ours"])
def docker(request):
    folder = Path(tempfile.mkdtemp(prefix="pc", dir="/tmp"))
    made = Docker(folder, containerd=request.param, shim="ours")
    if V1.partition("=")[2] not in made.ok("info", "--format", "{{json .Runtimes}}"):
        made.close()
        pytest.skip("this dockerd has no runtime v1 any more")
    yield made
    made.close()
    shutil.rmtree(folder)  # noqa: TID251 - a folder of the test's own


def test_s095_docker_runs_execs_and_stops(docker):
    done = docker("run", "--rm", V1, "busybox", "sh", "-c", "echo out; echo err >&2; exit 42")
    errors = [
        line for line in done.stderr.splitlines() if "is deprecated" not in line
    ]  # dockerd's own warning
    assert (done.stdout, errors, done.returncode) == ("out\n", ["err"], 42)
    id_ = docker.ok("run", "-d", "--name", "v1", "--memory", "64m", V1, "busybox", "sleep", "1000").strip()
    shims = docker.machine("ps", "-eo", "args").stdout
    line = next(row for row in shims.splitlines() if f"io.containerd.runtime.v1.linux/moby/{id_}" in row)
    # What dockerd says of its runtime stands on the shim's command line.
    assert re.search(r"containerd-shim(-py)? -namespace moby -workdir \S+ -address /run/c/c\.sock -containerd-binary \S+ -runtime-root /run/dk/runtime-runc( -debug)?$", line), line  # fmt: skip
    bundle = f"/run/c/io.containerd.runtime.v1.linux/moby/{id_}"
    assert docker.machine("test", "-e", f"{bundle}/config.json").returncode == 0
    assert docker.machine("test", "-e", f"/run/dk/runtime-runc/moby/{id_}/state.json").returncode == 0
    done = docker("exec", "v1", "sh", "-c", "echo in; exit 3")
    assert (done.stdout, done.returncode) == ("in\n", 3)
    assert "64MiB" in docker.ok("stats", "--no-stream", "--format", "{{.MemUsage}}", "v1")
    docker.ok("pause", "v1")
    assert docker.state("v1")["Paused"]
    docker.ok("unpause", "v1")
    docker.ok("stop", "-t", "1", "v1")
    assert docker.state("v1")["ExitCode"] == 137
    docker.ok("start", "v1")
    docker.ok("kill", "v1")
    wait_until(lambda: docker.state("v1")["Status"] == "exited")
    docker.ok("rm", "v1")
