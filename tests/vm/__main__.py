"""Runs the batches of selection.py on each runtime, one machine at a time, and prints what came of them.

python -m tests.vm [BATCH...]        RUNTIMES="runc pyrunc" (both by default)

All batches on pyrunc end with the rows of docs/conformance.md that they don't show on cgroup version 2: there must be none.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.support import conformance
from tests.vm.selection import BATCHES, RUNTIME_TESTS

TOP = Path(__file__).resolve().parents[2]
TIME_FACTOR = 10
# They would write beside the tests, which cannot be written there.
PLUGINS = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
WORDS = ("passed", "failed", "error", "skipped")
_OUTCOME = re.compile(
    rf"^tests/(\S+\.py)::(?:\w+::)*(\w+)(?:\[.*\])? ({'|'.join(WORDS)})\b", re.MULTILINE | re.IGNORECASE
)


def run(runtime: str, version: str, names: tuple[str, ...]) -> tuple[int, list[tuple[str, str, str]]]:
    """One batch: pytest's status, and (file, function, outcome) of each test. What it prints is passed on as it comes."""
    tests = [f"{RUNTIME_TESTS}/{name}" for name in names]
    pytest = [f"{TOP}/.venv/bin/python3", "-m", "pytest", "-v", *PLUGINS]
    variables = [f"RUNTIME={runtime}", f"TEST_TIME_FACTOR={TIME_FACTOR}", "CI=true"]
    process = subprocess.Popen(
        ["scripts/vm", "env", *variables, *pytest, "-o", f"faulthandler_timeout={100 * TIME_FACTOR}", *tests],
        cwd=TOP,
        env={**os.environ, "CGROUP": version},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    text = ""
    # As it comes, not by lines: a test may take a minute there.
    while part := os.read(process.stdout.fileno(), 65536).decode(errors="replace"):
        print(part, end="", flush=True)
        text += part
    return process.wait(), [(file, test, word.lower()) for file, test, word in _OUTCOME.findall(text)]


def rows_not_shown(passed: set[tuple[str, str]]) -> list[str]:
    """Names of the runtime's rows with a test for version 2, none or not all of which passed."""
    found = []
    for title in conformance.RUNTIME_TABLES:
        for row in conformance.rows(conformance.section(title)):
            tests = conformance.of_version_2(row)
            enough = any if row[2] == "same" else all
            if not enough(test in passed for test in tests):
                found.append(row[0])
    return found


def main(wanted: list[str]) -> int:
    unknown = set(wanted) - {name for name, _, _ in BATCHES}
    if unknown:
        print(f"no such batch: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    runtimes = os.environ.get("RUNTIMES", "runc pyrunc").split()
    lines, failed, outcomes = [], False, []
    for name, version, files in BATCHES:
        if wanted and name not in wanted:
            continue
        for runtime in runtimes:
            print(f"== {name}, cgroup {version}, {runtime}", flush=True)
            began = time.monotonic()
            status, found = run(runtime, version, files)
            failed |= status != 0
            if (runtime, version) == ("pyrunc", "v2"):
                outcomes += found
            counts = Counter(word for _, _, word in found)
            words = ", ".join(f"{counts[word]} {word}" for word in WORDS)
            took = (time.monotonic() - began) / 60
            lines.append(f"{name:20} {version}  {runtime:7} {words}  ({took:.0f} min, status {status})")
    print("\n".join(["", "In the virtual machine:", *lines]))
    if wanted or "pyrunc" not in runtimes:
        return int(failed)
    bad = {(file, test) for file, test, word in outcomes if word in ("failed", "error")}
    missing = rows_not_shown({(file, test) for file, test, word in outcomes if word == "passed"} - bad)
    print(f"Rows of docs/conformance.md not shown on version 2: {', '.join(missing) or 'none'}")
    return int(failed or bool(missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
