"""Fails on files of more than 600 lines and functions of more than 60; names those over 400 and 40.

Exceptions stand in scripts/size_exceptions.txt as `path limit` or `path::function limit`, and may only shrink.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ("src/pycontainerd/lib/api/light/", "src/pycontainerd/lib/api/full/")


def sizes() -> dict[str, tuple[int, int, int]]:
    """name -> (lines, warn, fail)."""
    found = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name.startswith(GENERATED):
            continue
        text = path.read_text()
        found[name] = (text.count("\n"), 400, 600)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[f"{name}::{node.name}"] = ((node.end_lineno or 0) - node.lineno + 1, 40, 60)
    return found


def main() -> int:
    """Prints what is over; 1 when something fails."""
    exceptions = {}
    file = ROOT / "scripts/size_exceptions.txt"
    if file.exists():
        exceptions = {
            line.split()[0]: int(line.split()[1]) for line in file.read_text().splitlines() if line.strip()
        }
    failed = False
    for name, (lines, warn, limit) in sizes().items():
        allowed = exceptions.get(name, limit)
        if lines > allowed:
            print(f"FAIL {name}: {lines} lines, at most {allowed}")
            failed = True
        elif name in exceptions and lines <= limit:
            print(f"FAIL {name}: fits now; take it out of scripts/size_exceptions.txt")
            failed = True
        elif lines > warn:
            print(f"warn {name}: {lines} lines")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
