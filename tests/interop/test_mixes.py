"""Each seam swapped one at a time: ours or the real one as daemon, shim and runtime (S003, S006, S007, S058, S063-S067, S085, S088)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from support.programs import ours, peer, peer_environment
from support.stack import Stack


@pytest.fixture(
    scope="module",
    params=[(daemon, shim) for daemon in ("ours", "real") for shim in ("our-shim", "real-shim")],
    ids="-".join,
)
def stack(request, busybox, tmp_path_factory):
    daemon, shim = request.param
    path = ours("containerd-shim-pyrunc-v2") if shim == "our-shim" else peer("containerd-shim-runc-v2")
    root = Path(tempfile.mkdtemp(prefix="pc", dir="/tmp"))
    stack = Stack(root, kind=daemon, shim=path).start()
    stack.ctr("image", "pull", "--plain-http", busybox)
    yield stack
    stack.clean()
    shutil.rmtree(root)  # noqa: TID251 - a folder of the test's own


@pytest.mark.parametrize("runtime", ["pyrunc", "runc"])
def test_every_mix_runs_execs_and_ends(stack, runtime, busybox):
    flags = ["--runc-binary", ours("pyrunc") if runtime == "pyrunc" else peer("runc")]
    done = stack.ctr("run", "--rm", *flags, busybox, "mix", "sh", "-c", "echo out; exit 42", check=False)
    assert (done.stdout, done.returncode) == ("out\n", 42), done.stderr
    stack.ctr("run", "-d", *flags, busybox, "mix", "sleep", "100")
    done = stack.ctr("tasks", "exec", "--exec-id", "e", "mix", "sh", "-c", "echo in; exit 3", check=False)
    assert (done.stdout, done.returncode) == ("in\n", 3), done.stderr
    stack.ctr("tasks", "kill", "-s", "KILL", "mix")
    time.sleep(0.3)
    assert "STOPPED" in stack.ctr("tasks", "ls").stdout
    stack.ctr("tasks", "rm", "mix")
    stack.ctr("containers", "rm", "mix")


def test_s064_s067_a_stock_daemons_shim_shows_the_classic_argv(short_tmp, busybox):
    stack = Stack(short_tmp / "d", kind="real", shim=ours("containerd-shim-pyrunc-v2")).start()
    try:
        stack.ctr("image", "pull", "--plain-http", busybox)
        stack.ctr("run", "-d", busybox, "linked", "sleep", "100")
        # What the shim forks for a moment has its command line.
        deadline = time.monotonic() + 5
        while len(shims := stack.shims()) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        # containerd 1.7 and newer repeat a debugging daemon's flag.
        lines = [line.removesuffix(" -debug") for line in shims.values()]
        name = f"{stack.root}/bin/containerd-shim-runc-v2"
        assert lines == [f"{name} -namespace default -id linked -address {stack.address}"]
    finally:
        stack.clean()


def shim_of(stack, id_: str) -> int:
    return next(pid for pid, line in stack.shims().items() if f"-id {id_} " in line)


def test_s063_s064_container_is_the_shims_child_and_the_shim_is_nobodys(our_stack, busybox):
    our_stack.ctr("image", "pull", "--plain-http", busybox)
    our_stack.ctr("run", "-d", busybox, "tree", "sleep", "100")
    shim = shim_of(our_stack, "tree")
    task = int(our_stack.ctr("tasks", "ls").stdout.partition("tree")[2].split()[0])
    status = Path(f"/proc/{task}/status").read_text()
    assert f"PPid:\t{shim}\n" in status
    assert Path(f"/proc/{shim}/status").read_text().partition("PPid:\t")[2].partition("\n")[0] != str(
        our_stack.pid()
    )
    our_stack.ctr("tasks", "rm", "-f", "tree", check=False)
    our_stack.ctr("containers", "rm", "tree")


def test_s088_each_runtime_lists_and_deletes_the_others_containers(short_tmp):
    rootfs = short_tmp / "b/rootfs"
    (rootfs / "bin").mkdir(parents=True)
    (rootfs / "bin/sleep").write_bytes(Path(peer("busybox")).read_bytes())
    (rootfs / "bin/sleep").chmod(0o755)
    bundle, root = str(short_tmp / "b"), str(short_tmp / "root")
    environment = peer_environment()

    def run(program: str, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "--root", root, *args],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            timeout=30,
        )

    subprocess.run([peer("runc"), "spec", "-b", bundle], check=True, env=environment)
    spec = json.loads((short_tmp / "b/config.json").read_text())
    spec["process"].update(terminal=False, args=["/bin/sleep", "100"])
    (short_tmp / "b/config.json").write_text(json.dumps(spec))
    for maker, other in ((ours("pyrunc"), peer("runc")), (peer("runc"), ours("pyrunc"))):
        # No pipes: a created container holds its streams.
        with open(os.devnull, "r+b") as null, open(short_tmp / "err", "w+") as errors:
            made = subprocess.run(
                [maker, "--root", root, "create", "-b", bundle, "x"],
                stdin=null, stdout=null, stderr=errors, env=environment, timeout=30, check=False,
            )  # fmt: skip
        assert made.returncode == 0, (short_tmp / "err").read_text()
        assert "created" in run(other, "list").stdout
        state = json.loads(run(other, "state", "x").stdout)
        assert (state["status"], state["bundle"]) == ("created", bundle)
        assert run(other, "start", "x").returncode == 0
        assert json.loads(run(other, "state", "x").stdout)["status"] == "running"
        killed = run(other, "kill", "x", "KILL")
        assert killed.returncode == 0, killed.stderr
        time.sleep(0.3)
        deleted = run(other, "delete", "x")
        assert deleted.returncode == 0, deleted.stderr
        assert not os.path.exists(f"{root}/x")


@pytest.mark.parametrize("kind", ["real", "ours"])
def test_a_shim_goes_before_its_daemon_when_memory_is_short(kind, request, busybox):
    stack = request.getfixturevalue({"real": "real_stack", "ours": "our_stack"}[kind])
    stack.ctr("image", "pull", "--plain-http", busybox)
    stack.ctr("run", "-d", busybox, "score", "sleep", "100")
    try:
        task = int(stack.ctr("tasks", "ls").stdout.partition("score")[2].split()[0])
        daemon, shim, container = (
            int(Path(f"/proc/{pid}/oom_score_adj").read_text())
            for pid in (stack.pid(), shim_of(stack, "score"), task)
        )
        assert (shim, container) == (daemon + 1, daemon + 1)
    finally:
        stack.ctr("tasks", "rm", "-f", "score", check=False)
        stack.ctr("containers", "rm", "score")
