"""Writes the house's tree into ARCHITECTURE.md from the first line of every file; `check` fails when it is stale."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/pycontainerd"
GENERATED = {SOURCE / "lib/api/light", SOURCE / "lib/api/full"}
BEGIN, END = "<!-- tree: scripts/tree.py -->\n", "<!-- end of tree -->\n"


def first_line(path: Path) -> str:
    """The file's one job."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def tree(folder: Path, depth: int = 0) -> list[str]:
    """The lines below a folder."""
    lines = []
    files = sorted(p for p in folder.glob("*.py") if p.name != "__init__.py")
    if folder not in GENERATED:
        lines += [f"{'  ' * depth}{p.name:<{30 - 2 * depth}} {first_line(p)}" for p in files]
    for sub in sorted(p for p in folder.iterdir() if (p / "__init__.py").exists()):
        lines.append(f"{'  ' * depth}{sub.name + '/':<{30 - 2 * depth}} {first_line(sub / '__init__.py')}")
        lines += tree(sub, depth + 1)
    return lines


def main() -> int:
    """Writes or checks."""
    document = ROOT / "ARCHITECTURE.md"
    text = document.read_text()
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    wanted = head + BEGIN + "```\n" + "\n".join(tree(SOURCE)) + "\n```\n" + END + tail
    if sys.argv[1:] == ["check"]:
        if wanted != text:
            sys.stderr.write("ARCHITECTURE.md: the tree is stale; run scripts/tree.py\n")
        return int(wanted != text)
    document.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
