"""`pyctr shims`: the shim processes of a daemon: age, memory, how fast they answer, and which nobody knows any more."""

from __future__ import annotations

import os
import time

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import BOOL, Flag
from pycontainerd.lib.errdefs import ContainerdError

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Final

    from pycontainerd.ctr.command import Call

_REPLY_TIMEOUT_S: Final = 2.0
_ATTENDANT: Final = ": attends to "  # in the title of the second process of a shim of ours that isn't at rest


def _shims(call: Call) -> int:
    address = call.root_flags.text("address")
    rows = []
    shims, attendants = _processes()
    for pid, flags in shims:
        if not call.flags.on("all") and flags.get("address") != address:
            continue
        rows.append(_row(pid, flags, attendants.get(pid, ())))
    _mark_orphans(rows)
    rows.sort(key=lambda row: (row["namespace"], row["id"]))
    if call.flags.on("quiet"):
        display.write("".join(f"{row['pid']}\n" for row in rows))
    else:
        display.print_rows(rows, call.flags.text("format"), _table)
    return 0


def _processes() -> tuple[list[tuple[int, dict[str, str]]], dict[int, list[int]]]:
    """(pid, its flags) of everything that runs as a shim, and by its pid the attendants of one that isn't at rest.

    What ends while we look is left out.
    """
    shims: list[tuple[int, dict[str, str]]] = []
    attendants: dict[int, list[int]] = {}
    for pid, words in _command_lines():
        keeper = words[0].rpartition(_ATTENDANT)[2]
        if _ATTENDANT in words[0] and keeper.isascii() and keeper.isdigit():
            attendants.setdefault(int(keeper), []).append(pid)
            continue
        at = next((place for place, word in enumerate(words[:3]) if "containerd-shim" in word), None)
        if at is None or {"start", "delete"} & set(words[at + 1 :]):
            continue
        flags = _flags(words[at + 1 :])
        if "id" in flags and "namespace" in flags:
            shims.append((pid, flags))
    return shims, attendants


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                yield int(name), [os.fsdecode(word) for word in file.read().rstrip(b"\0").split(b"\0")]
        except OSError:
            continue


def _flags(words: Sequence[str]) -> dict[str, str]:
    """Go's flags, `-name value` and `-name=value`, of any shim: also those that ours does not define."""
    found: dict[str, str] = {}
    for place, word in enumerate(words):
        if not word.startswith("-"):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        following = words[place + 1] if place + 1 < len(words) else ""
        found[name] = value if equals else "" if following.startswith("-") else following
    return found


def _row(pid: int, flags: dict[str, str], attendants: Sequence[int]) -> dict[str, Any]:
    memory_bytes = sum(map(_memory_bytes, (pid, *attendants)))
    return {
        "id": flags["id"],
        "namespace": flags["namespace"],
        "pid": pid,
        "address": flags.get("address", ""),
        "age_seconds": round(max(0.0, time.time() - _started_at(pid)), 1),
        "memory_bytes": memory_bytes,
        "reply_seconds": _reply_s(flags),
        "orphan": False,
    }


def _memory_bytes(pid: int) -> int:
    """What a process takes, pages that it shares by its share: shims of one forkserver have most of theirs in common.

    Man: proc_pid_smaps(5)
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith(b"Pss:"))
    except OSError:
        return 0  # it ended meanwhile


def _started_at(pid: int) -> float:
    """Seconds since the epoch. Man: proc_pid_stat(5)"""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        with open("/proc/stat", "rb") as file:
            boot = next(int(line.split()[1]) for line in file if line.startswith(b"btime"))
    except OSError:
        return time.time()  # it ended meanwhile
    return boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _reply_s(flags: dict[str, str]) -> float | None:
    """How long the shim takes to answer; None when it doesn't."""
    from pycontainerd.ctr import shim_socket
    from pycontainerd.lib.api.light import task_v2
    from pycontainerd.lib.ttrpc.client import Client

    for path in shim_socket.candidates(flags.get("address", ""), flags["namespace"], flags["id"]):
        if not os.path.exists(path):
            continue
        began = time.monotonic()
        try:
            with Client.connect(path) as client:
                request = task_v2.ConnectRequest(id=flags["id"]).SerializeToString()
                metadata = {"containerd-namespace-ttrpc": flags["namespace"]}
                client.call(task_v2.TASK.name, "Connect", request, metadata, timeout_s=_REPLY_TIMEOUT_S)
        except ContainerdError as error:
            if error.code not in _ANSWERS:
                continue
        except OSError:
            continue
        return round(time.monotonic() - began, 4)
    return None


_ANSWERS: Final = frozenset({5, 9})  # NotFound, FailedPrecondition: it says so itself, so it is alive


def _mark_orphans(rows: Sequence[dict[str, Any]]) -> None:
    """A shim whose daemon doesn't answer is left alone: whose it is can't be said."""
    known: dict[tuple[str, str], set[str] | None] = {}
    for row in rows:
        where = (row["address"], row["namespace"])
        if where not in known:
            known[where] = _containers(*where)
        found = known[where]
        row["orphan"] = found is not None and row["id"] not in found


def _containers(address: str, namespace: str) -> set[str] | None:
    from pycontainerd.client import containers
    from pycontainerd.client.client import Client

    try:
        with Client(address, namespace, connect_timeout_s=_REPLY_TIMEOUT_S) as client:
            return {record.id for record in containers.walk(client)}
    except (ContainerdError, OSError):
        return None


def _table(rows: Sequence[dict[str, Any]]) -> None:
    lines = []
    for row in rows:
        reply = "none" if row["reply_seconds"] is None else f"{row['reply_seconds'] * 1000:.1f} ms"
        lines.append(
            f"{row['id']}\t{row['namespace']}\t{row['pid']}\t{display.human_age(row['age_seconds'])}\t"
            f"{display.binary_size(row['memory_bytes'])}\t{reply}\t{'orphan' if row['orphan'] else '-'}\t"
        )
    display.table("CONTAINER\tNAMESPACE\tPID\tAGE\tMEMORY\tREPLY\tSTATE\t", lines, display.WIDE)


COMMAND = Command(
    "shims",
    "list the shims of the daemon",
    _shims,
    arguments="[flags]",
    flags=(
        Flag("all, a", BOOL, "the shims of every daemon on this machine"),
        Flag("quiet, q", BOOL, "print pids only"),
        text.FORMAT_FLAG,
    ),
    description="an orphan is one whose container its daemon doesn't know any more",
)
