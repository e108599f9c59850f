"""What is measured: each case gives samples by contestant, taken in turn so that noise hits all alike."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import images
from support.programs import ours, peer, peer_environment
from support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

Samples = dict[str, list[float]]


class World:
    """A registry, both daemons with the image pulled, and a bundle; all under one temporary folder on tmpfs."""

    def __enter__(self) -> World:
        self.stack = ExitStack()
        self.root = Path(tempfile.mkdtemp(prefix="pb", dir="/tmp"))
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.root], check=True)
        self.stack.callback(self._remove)
        host = self.stack.enter_context(images.registry(self.root / "registry"))
        self.image = f"{host}/library/busybox:latest"
        images.push(images.build_layout(self.root / "layout"), self.image)
        self.big = f"{host}/library/big:latest"
        images.push(big_layout(self.root / "big"), self.big)
        self.daemons = {
            "ours": Stack(self.root / "o", kind="ours"),
            "containerd": Stack(self.root / "p", kind="real"),
        }
        for daemon in self.daemons.values():
            daemon.start()
            self.stack.callback(daemon.clean)
            daemon.ctr("image", "pull", "--plain-http", self.image)
        self.bundle = self._bundle()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stack.close()

    def _remove(self) -> None:
        subprocess.run(["umount", "-l", self.root], check=True)
        self.root.rmdir()

    def _bundle(self) -> Path:
        bundle = self.root / "bundle"
        (bundle / "rootfs/bin").mkdir(parents=True)
        shutil.copy(peer("busybox"), bundle / "rootfs/bin/true")
        subprocess.run([peer("runc"), "spec", "-b", bundle], check=True)
        spec = json.loads((bundle / "config.json").read_text())
        spec["process"].update(terminal=False, args=["/bin/true"])
        (bundle / "config.json").write_text(json.dumps(spec))
        return bundle


def big_layout(folder: Path) -> Path:
    """An image of one layer of about 190 MB in 4,000 files of mixed sizes, half of it compressible."""
    entries: list[images.Entry] = [("data", "dir", None, 0o755)]
    for index in range(4000):
        size = 190_000_000 // 4000 if index % 10 else 100
        data = os.urandom(size // 2) + bytes(size - size // 2)
        entries.append((f"data/{index}", "file", data, 0o644))
    return images.build_layout(folder, contents=[entries])


def timed(argv: list[str], env: dict[str, str], *, status: int = 0, cwd: Path | None = None) -> float:
    """Milliseconds of a command that must end with `status`."""
    begun = time.perf_counter()
    done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, check=False)
    took = (time.perf_counter() - begun) * 1000
    if done.returncode != status:
        raise RuntimeError(f"{argv}: {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
    return took


class Case:
    """A named measurement."""

    def __init__(self, name: str, measure: Callable[[World, int], Samples], unit: str = "ms") -> None:
        self.name = name
        self.measure = measure
        self.unit = unit


def in_turn(rounds: int, contestants: dict[str, Callable[[int], float]]) -> Samples:
    """One warm-up each, then round by round."""
    for run in contestants.values():
        run(-1)
    samples: Samples = {who: [] for who in contestants}
    for index in range(rounds):
        for who, run in contestants.items():
            samples[who].append(run(index))
    return samples


def runtime_version(world: World, rounds: int) -> Samples:
    env = peer_environment()
    programs = {"ours": ours("pyrunc"), "runc": peer("runc"), "crun": peer("crun")}
    return in_turn(rounds, {who: lambda _, p=p: timed([p, "--version"], env) for who, p in programs.items()})


def runtime_run(world: World, rounds: int) -> Samples:
    env = peer_environment()
    programs = {"ours": ours("pyrunc"), "runc": peer("runc")}

    def run(who: str, program: str) -> Callable[[int], float]:
        root = str(world.root / f"root-{who}")
        return lambda i: timed([program, "--root", root, "run", f"b{i + 1}"], env, cwd=world.bundle)

    return in_turn(rounds, {who: run(who, program) for who, program in programs.items()})


def runtime_run_without_v2(world: World, rounds: int) -> Samples:
    """crun refuses hybrid cgroups, so all three run where the v2 mount is gone."""
    env = peer_environment()
    programs = {"ours": ours("pyrunc"), "crun": peer("crun")}
    script = 'umount /sys/fs/cgroup/unified 2>/dev/null; cd "$1"; shift; exec "$@"'

    def run(who: str, program: str) -> Callable[[int], float]:
        # The namespace is made outside of what is timed: a helper in it takes one command a line.
        argv = [program, "--root", str(world.root / f"root2-{who}"), "run"]
        return lambda i: timed(
            ["unshare", "-m", "sh", "-c", script, "sh", str(world.bundle), *argv, f"c{i + 1}"], env
        )

    return in_turn(rounds, {who: run(who, program) for who, program in programs.items()})


def clients(world: World, argv: Callable[[str], list[str]], rounds: int) -> Samples:
    """The same command line of pyctr on our daemon and of ctr on containerd."""

    def run(who: str) -> Callable[[int], float]:
        daemon, program = world.daemons[who], "pyctr" if who == "ours" else "ctr"
        return lambda i: timed(daemon.command(program, *argv(f"x{i + 1}")), daemon.environment)

    return in_turn(rounds, {who: run(who) for who in world.daemons})


def run_rm(world: World, rounds: int) -> Samples:
    return clients(world, lambda id_: ["run", "--rm", world.image, id_, "true"], rounds)


def stock_client_run_rm(world: World, rounds: int) -> Samples:
    """Debian's ctr on both daemons."""

    def run(who: str) -> Callable[[int], float]:
        daemon = world.daemons[who]
        return lambda i: timed(
            daemon.command("ctr", "run", "--rm", world.image, f"s{i + 1}", "true"), daemon.environment
        )

    return in_turn(rounds, {who: run(who) for who in world.daemons})


def exec_cli(world: World, rounds: int) -> Samples:
    for daemon in world.daemons.values():
        daemon.ctr("run", "-d", world.image, "ex", "sleep", "1000")
    try:
        return clients(world, lambda id_: ["tasks", "exec", "--exec-id", id_, "ex", "true"], rounds)
    finally:
        for daemon in world.daemons.values():
            daemon.ctr("tasks", "rm", "-f", "ex", check=False)
            daemon.ctr("containers", "rm", "ex")


def api_life(world: World, rounds: int) -> Samples:
    """create, start, wait, delete of a task by one gRPC connection, the same client on both daemons."""
    import grpc

    from pycontainerd.lib.api.full import snapshots_v1, tasks_v1

    services = {"snapshots": snapshots_v1.SNAPSHOTS, "tasks": tasks_v1.TASKS}

    def life(who: str) -> Callable[[int], float]:
        daemon = world.daemons[who]
        daemon.ctr("containers", "create", world.image, "api", "true")
        channel = grpc.insecure_channel(f"unix://{daemon.address}")

        def call(service: str, name: str, **fields: object) -> Any:
            method = services[service].method(name)
            invoke = channel.unary_unary(
                f"/{services[service].name}/{name}",
                lambda m: m.SerializeToString(),
                method.response.FromString,
            )
            return invoke(
                method.request(**fields), metadata=(("containerd-namespace", "default"),), timeout=30
            )

        def once(_: int) -> float:
            begun = time.perf_counter()
            mounts = call("snapshots", "Mounts", snapshotter="overlayfs", key="api").mounts
            call("tasks", "Create", container_id="api", rootfs=mounts)
            call("tasks", "Start", container_id="api")
            call("tasks", "Wait", container_id="api")
            call("tasks", "Delete", container_id="api")
            return (time.perf_counter() - begun) * 1000

        return once

    return in_turn(rounds, {who: life(who) for who in world.daemons})


def version(world: World, rounds: int) -> Samples:
    return clients(world, lambda _: ["version"], rounds)


def container_list(world: World, rounds: int) -> Samples:
    return clients(world, lambda _: ["containers", "ls"], rounds)


def pull(world: World, rounds: int) -> Samples:
    """Pull and unpack of the 190 MB image; stores on tmpfs."""

    def run(who: str) -> Callable[[int], float]:
        daemon, program = world.daemons[who], "pyctr" if who == "ours" else "ctr"

        def once(_: int) -> float:
            took = timed(
                daemon.command(program, "image", "pull", "--plain-http", world.big), daemon.environment
            )
            daemon.ctr("image", "rm", "--sync", world.big)
            return took

        return once

    return in_turn(min(rounds, 5), {who: run(who) for who in world.daemons})


def memory(world: World, rounds: int) -> Samples:
    """Private KiB of the shims of 20 sleeping containers, per container."""
    count = 20
    samples: Samples = {}
    for who, daemon in world.daemons.items():
        for index in range(count):
            daemon.ctr("run", "-d", world.image, f"m{index}", "sleep", "1000")
        samples[who] = [sum(private_kib(pid) for pid in daemon.shims()) / count]
        for index in range(count):
            daemon.ctr("tasks", "rm", "-f", f"m{index}", check=False)
            daemon.ctr("containers", "rm", f"m{index}")
    return samples


def memory_daemon(world: World, rounds: int) -> Samples:
    """PSS KiB of the daemon alone, as the cases before have left it."""
    return {who: [field_kib(daemon.pid(), ("Pss",))] for who, daemon in world.daemons.items()}


def private_kib(pid: int) -> float:
    """Private memory of a process. Spec: proc_pid_smaps(5)"""
    return field_kib(pid, ("Private_Clean", "Private_Dirty"))


def field_kib(pid: int, names: tuple[str, ...]) -> float:
    """The sum of fields of smaps_rollup."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.split(":")[0] in names:
            total += int(line.split()[1])
    return float(total)


CASES = (
    Case("runtime --version", runtime_version),
    Case("runtime run /bin/true", runtime_run),
    Case("runtime run without the v2 mount", runtime_run_without_v2),
    Case("ctr version", version),
    Case("ctr containers ls", container_list),
    Case("ctr run --rm", run_rm),
    Case("Debian's ctr run --rm on both daemons", stock_client_run_rm),
    Case("API: task create, start, wait, delete", api_life),
    Case("ctr task exec", exec_cli),
    Case("pull + unpack 190 MB, one layer", pull),
    Case("shim private memory, each of 20", memory, "KiB"),
    Case("daemon PSS, after the rest", memory_daemon, "KiB"),
)
