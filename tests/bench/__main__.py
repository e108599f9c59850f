"""make bench: every case on ours and on the peers in turn, medians and ratios as a table and as JSON.

usage: python -m tests.bench [--rounds N] [--json FILE] [--svg FILE] [CASE...]
Runs in: a mount namespace of its own (scripts/isolated), as root. Trust ratios, not milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

sys.path[0:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "src")]

from bench import cases, plot  # noqa: E402 - after the path is set
from bench.world import World  # noqa: E402


def main() -> int:
    """Runs the chosen cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    unknown = set(options.cases) - {case.name for case in cases.CASES}
    if unknown:
        names = "\n  ".join(case.name for case in cases.CASES)
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are\n  {names}")
    rows: list[Row] = []
    with World() as world:
        for case in cases.CASES:
            if options.cases and case.name not in options.cases:
                continue
            samples = case.measure(world, options.rounds)
            medians = {who: statistics.median(values) for who, values in samples.items() if values}
            for who, median in medians.items():
                if who != "ours":
                    rows.append(Row(case.name, case.unit, medians["ours"], who, median, case.aims.get(who)))
                    print(rows[-1].text(), flush=True)
    print()
    print(
        "\n".join(["case | ours | peer | ratio | aim", "---|---|---|---|---", *(row.text() for row in rows)])
    )
    if options.json:
        options.json.write_text(json.dumps([row.fields() for row in rows], indent=1))
    if options.svg:
        options.svg.write_text(plot.svg(rows))
    return 0


class Row(NamedTuple):
    """One line of the table."""

    case: str
    unit: str
    ours: float
    peer: str
    peer_value: float
    aim: float | None

    @property
    def ratio(self) -> float:
        """Ours to the peer's."""
        return self.ours / self.peer_value

    def text(self) -> str:
        """As Markdown, without the bars at both ends."""
        aim = "" if self.aim is None else f"{self.aim:g}"
        return f"{self.case} | {self.ours:.1f} {self.unit} | {self.peer} {self.peer_value:.1f} {self.unit} | {self.ratio:.2f} | {aim}"

    def fields(self) -> dict[str, object]:
        """For JSON."""
        return {**self._asdict(), "ratio": self.ratio}


if __name__ == "__main__":
    sys.exit(main())
