"""The runtimes alone: `--version`, and `run` and `exec` of /bin/true."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from bench.world import Samples, World, in_turn, timed
from support.programs import ours, peer, peer_environment

if TYPE_CHECKING:
    from collections.abc import Callable


_WITHOUT_V2 = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "sh")


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


def runtime_run_from_memory(world: World, rounds: int) -> Samples:
    """Where the interpreter can't be mounted, so that each run makes a sealed copy of it and executes that."""
    env = peer_environment()
    nowhere = {**env, "PYCONTAINERD_INTERPRETER": "/proc/nowhere"}

    def run(who: str, program: str, its: dict[str, str]) -> Callable[[int], float]:
        argv = [program, "--root", str(world.root / f"root3-{who}"), "run"]
        return lambda i: timed([*argv, f"m{i + 1}"], its, cwd=world.bundle)

    return in_turn(
        rounds, {"ours": run("ours", ours("pyrunc"), nowhere), "runc": run("runc", peer("runc"), env)}
    )


def runtime_run_without_v2(world: World, rounds: int) -> Samples:
    """crun refuses hybrid cgroups, so both run where the v2 mount is gone."""
    env = peer_environment()
    programs = {"ours": ours("pyrunc"), "crun": peer("crun")}

    def run(who: str, program: str) -> Callable[[int], float]:
        argv = [*_WITHOUT_V2, program, "--root", str(world.root / f"root2-{who}"), "run"]
        return lambda i: timed([*argv, f"c{i + 1}"], env, cwd=world.bundle)

    return in_turn(rounds, {who: run(who, program) for who, program in programs.items()})


def runtime_exec(world: World, rounds: int) -> Samples:
    return _exec(world, rounds, "runc", ())


def runtime_exec_without_v2(world: World, rounds: int) -> Samples:
    """Container and exec where the v2 mount is gone, for crun's sake."""
    return _exec(world, rounds, "crun", _WITHOUT_V2)


def _exec(world: World, rounds: int, other: str, prefix: tuple[str, ...]) -> Samples:
    """In a container that the same runtime has made, which runs `sleep`."""
    env = peer_environment()

    with contextlib.ExitStack() as stack:

        def run(who: str, program: str) -> Callable[[int], float]:
            argv = [*prefix, program, "--root", str(world.root / f"root-exec-{who}-beside-{other}")]
            name = f"e-{who}"
            stack.callback(subprocess.run, [*argv, "delete", "-f", name], env=env, check=True)
            # A pipe as its output would be open as long as the container.
            subprocess.run(
                [*argv, "run", "-d", name],
                env=env,
                cwd=world.sleeper,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            return lambda _: timed([*argv, "exec", name, "/bin/true"], env)

        return in_turn(rounds, {"ours": run("ours", ours("pyrunc")), other: run(other, peer(other))})
