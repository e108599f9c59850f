"""What an operation does that no machine's mood changes: modules loaded, system calls, processes, syncs, bytes written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CALL = re.compile(r"^\d+\s+(?:<\.\.\. )?(\w+)(?: resumed>|\()?(.*)$")
# A module: our own by its source, which is looked at once where its code is in a bundle; another's by its code.
_OWN_SOURCE = re.compile(r'"[^"]*/(pycontainerd/[^"]*\.py)"')
_CODE = re.compile(r'"([^"]*\.pyc)"')
_RESULT = re.compile(r"= (\d+)(?: <.*>)?$")
_FORKS = {"clone", "clone3", "fork", "vfork"}
_SYNCS = {"fsync", "fdatasync", "sync", "syncfs", "sync_file_range"}
_WRITES = {"write", "pwrite64", "writev", "pwritev", "splice", "sendfile", "copy_file_range"}
# How often a wait is woken, or a lock contended, is the scheduler's business.
_UNCOUNTED = {
    "futex",
    "epoll_wait",
    "poll",
    "restart_syscall",
    "sched_yield",
    "rt_sigreturn",
    "wait4",
    "madvise",
}


def of_command(
    argv: Sequence[str], env: dict[str, str], folder: Path, *, attach: Sequence[int] = ()
) -> dict[str, int]:
    """Counts of one command that must succeed, with those of the processes `attach` while it runs."""
    out = folder / "trace"
    watcher = _attach(attach, folder / "attached") if attach else None
    try:
        subprocess.run(
            ["strace", "-f", "-qq", "-s", "256", "-o", out, *argv],
            env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip
        if watcher is not None:
            _settle(folder / "attached")
    finally:
        if watcher is not None:
            watcher.send_signal(signal.SIGINT)
            watcher.wait(30)
    lines = out.read_text(errors="replace").splitlines()
    if attach:
        lines += (folder / "attached").read_text(errors="replace").splitlines()
    return count(lines)


def _attach(pids: Sequence[int], out: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        ["strace", "-f", "-qq", "-s", "256", "-o", out, *(f"--attach={pid}" for pid in pids)],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while not all(_is_traced(pid) for pid in pids):
        if time.monotonic() > deadline:
            process.kill()
            raise TimeoutError(f"strace does not attach to {pids}")
        time.sleep(0.05)
    return process


def _is_traced(pid: int) -> bool:
    try:
        return all(
            "TracerPid:\t0\n" not in Path(f"/proc/{pid}/task/{task}/status").read_text()
            for task in os.listdir(f"/proc/{pid}/task")
        )
    except FileNotFoundError:
        return True  # it has left meanwhile: there is nothing to count of it


def _settle(out: Path) -> None:
    """Until nothing has been written for a while: what the command left to others is done."""
    size, since = -1, time.monotonic()
    while time.monotonic() - since < 0.7:
        now = out.stat().st_size
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(0.05)


def count(lines: Sequence[str]) -> dict[str, int]:
    """The numbers of a trace."""
    found = {"modules": 0, "calls": 0, "processes": 0, "syncs": 0, "written": 0}
    modules: set[tuple[str, str]] = set()
    for line in lines:
        matched = _CALL.match(line)
        if matched is None or line.endswith("<unfinished ...>"):
            continue
        name, rest = matched.groups()
        if name in _UNCOUNTED or "+++" in line or "---" in line:
            continue
        found["calls"] += 1
        result = _RESULT.search(rest)
        found["processes"] += name in _FORKS and result is not None and result[1] != "0"
        found["syncs"] += name in _SYNCS
        module = _CODE.search(rest) if name == "openat" else _OWN_SOURCE.search(rest)
        if module is not None and result is not None and "/pycontainerd/" not in module[1]:
            modules.add((line.partition(" ")[0], module[1]))
        if name in _WRITES and result is not None:
            found["written"] += int(result[1])
    found["modules"] = len(modules)
    return found


def least(times: int, measure: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Of each number the smallest of several runs: a wait that was interrupted is nobody's fault."""
    runs = [measure() for _ in range(times)]
    return {name: min(run[name] for run in runs) for name in runs[0]}
