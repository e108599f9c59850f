"""Runs the batches of selection.py on each runtime, one machine at a time, and prints what came of them.

python -m tests.vm [BATCH...]        RUNTIMES="runc pyrunc" (both by default)
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.vm.selection import BATCHES, RUNTIME_TESTS

TOP = Path(__file__).resolve().parents[2]
TIME_FACTOR = 10
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")


def run(runtime: str, version: str, names: tuple[str, ...]) -> tuple[int, dict[str, int]]:
    """One batch: pytest's status, and its counts by word. What it prints is passed on as it comes."""
    tests = [f"{RUNTIME_TESTS}/{name}" for name in names]
    pytest = [f"{TOP}/.venv/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    variables = [f"RUNTIME={runtime}", f"TEST_TIME_FACTOR={TIME_FACTOR}", "CI=true"]
    process = subprocess.Popen(
        ["scripts/vm", "env", *variables, *pytest, "-o", f"faulthandler_timeout={100 * TIME_FACTOR}", *tests],
        cwd=TOP,
        env={**os.environ, "CGROUP": version},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    text = ""
    # As it comes, not by lines: a row of dots may take five minutes there.
    while part := os.read(process.stdout.fileno(), 65536).decode(errors="replace"):
        print(part, end="", flush=True)
        text += part
    ends = [line for line in text.splitlines() if " in " in line and _COUNTS.search(line)]
    counts = _COUNTS.findall(ends[-1]) if ends else []
    return process.wait(), {word.rstrip("s"): int(number) for number, word in counts}


def main(wanted: list[str]) -> int:
    unknown = set(wanted) - {name for name, _, _ in BATCHES}
    if unknown:
        print(f"no such batch: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    lines, failed = [], False
    for name, version, files in BATCHES:
        if wanted and name not in wanted:
            continue
        for runtime in os.environ.get("RUNTIMES", "runc pyrunc").split():
            print(f"== {name}, cgroup {version}, {runtime}", flush=True)
            began = time.monotonic()
            status, counts = run(runtime, version, files)
            failed |= status != 0
            words = ", ".join(
                f"{counts.get(word, 0)} {word}" for word in ("passed", "failed", "error", "skipped")
            )
            took = (time.monotonic() - began) / 60
            lines.append(f"{name:20} {version}  {runtime:7} {words}  ({took:.0f} min, status {status})")
    print("\n".join(["", "In the virtual machine:", *lines]))
    return int(failed)


sys.exit(main(sys.argv[1:]))
