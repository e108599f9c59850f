"""make bench: every case on ours and on the peers in turn, medians and ratios as a table and as JSON.

usage: python -m tests.bench [--rounds N] [--json FILE] [CASE...]
Runs in: a mount namespace of its own (scripts/isolated), as root. Trust ratios, not milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path[0:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "src")]

from bench import cases  # noqa: E402 - after the path is set
from bench.world import World  # noqa: E402


def main() -> int:
    """Runs the chosen cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    rows = []
    with World() as world:
        for case in cases.CASES:
            if options.cases and case.name not in options.cases:
                continue
            samples = case.measure(world, options.rounds)
            medians = {who: statistics.median(values) for who, values in samples.items() if values}
            for who, median in medians.items():
                if who != "ours":
                    rows.append(
                        (case.name, case.unit, medians["ours"], who, median, medians["ours"] / median)
                    )
                    print(format_row(rows[-1]), flush=True)
    print()
    print("\n".join(["case | ours | peer | ratio", "---|---|---|---", *map(format_row, rows)]))
    if options.json:
        keys = ("case", "unit", "ours", "peer", "peer_value", "ratio")
        options.json.write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=1))
    return 0


def format_row(row: tuple[str, str, float, str, float, float]) -> str:
    """One line of the table."""
    name, unit, ours, peer, value, ratio = row
    return f"{name} | {ours:.1f} {unit} | {peer} {value:.1f} {unit} | {ratio:.2f}"


if __name__ == "__main__":
    sys.exit(main())
