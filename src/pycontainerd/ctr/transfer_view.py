"""A transfer by the daemon as a tree of what refers to what: redrawn on a terminal, once at the end elsewhere."""

from __future__ import annotations

import sys
import threading
import time

from pycontainerd.ctr import display
from pycontainerd.ctr.progress import bar_of, total_line

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Final

_NAME_WIDTH: Final = 40
_HEX: Final = 71  # sha256: and its digits
_EMPTY: Final = frozenset({"resolving", "waiting"})
_MOVING: Final = frozenset({"downloading", "uploading", "extracting"})
_FULL: Final = frozenset({"complete", "extracted"})


class Node:
    """One thing that is transferred: the last that was said of it, and what it refers to."""

    __slots__ = ("children", "is_root", "said")

    def __init__(self, said: Any) -> None:
        self.said = said
        self.children: list[Node] = []
        self.is_root = True


class TransferView:
    """Takes Progress messages (from another thread) and shows them; `finish` draws the last state."""

    def __init__(self, *, redraws: bool = True) -> None:
        """Without `redraws` the last state alone is drawn on a terminal, too: something else shows what goes on."""
        self._nodes: dict[str, Node] = {}
        self._status = ""
        self._started = time.monotonic()
        self._live = redraws and sys.stdout.isatty()
        self._drawn = 0
        self._lock = threading.Lock()

    def take(self, said: Any) -> None:
        """One message; those without a name are about the whole."""
        with self._lock:
            if not said.name:
                self._status = said.event
            else:
                self._place(said)
            if self._live:
                self._draw()

    def finish(self) -> None:
        """The final lines."""
        with self._lock:
            self._draw()

    def _place(self, said: Any) -> None:
        node = self._nodes.get(said.name)
        if node is None:
            node = self._nodes[said.name] = Node(said)
        node.said = said
        for parent in (self._nodes.get(name) for name in said.parents):
            if parent is not None and node not in parent.children:
                parent.children.append(node)
                node.is_root = False

    def _draw(self) -> None:
        lines = [*self._tree(), *self._targets()]
        total = sum(node.said.progress for node in self._nodes.values())
        whole = sum(node.said.total for node in self._nodes.values()) if self._live else 0
        last = f"{self._status}\t{total_line(total, self._started, whole)}"
        text = "".join(f"{line}\n" for line in [*lines, last])
        erase = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
        display.write(erase + text)
        self._drawn = text.count("\n") if self._live else 0

    def _roots(self) -> list[Node]:
        return [node for node in self._nodes.values() if node.is_root]

    def _tree(self) -> Iterator[str]:
        for root in self._roots():
            yield _line(short_name(root.said.name), root.said, bar_of(live=self._live))
            yield from self._below(root, "")

    def _below(self, node: Node, prefix: str) -> Iterator[str]:
        for place, child in enumerate(node.children):
            is_last = place == len(node.children) - 1
            name = f"{prefix}{'└──' if is_last else '├──'}{short_name(child.said.name)}"
            yield _line(name, child.said, bar_of(live=self._live))
            yield from self._below(child, prefix + ("   " if is_last else "│  "))

    def _targets(self) -> Iterator[str]:
        for root in self._roots():
            found = _descriptor([root])
            if found is not None:
                yield f"{found.media_type} {found.digest}"


def _descriptor(nodes: Sequence[Node]) -> Any:
    """The first descriptor that was said of these or of what they refer to."""
    for node in nodes:
        found = node.said.desc if node.said.HasField("desc") else _descriptor(node.children)
        if found is not None:
            return found
    return None


def _line(name: str, said: Any, bar: Callable[[float], str]) -> str:
    head = f"{name[:_NAME_WIDTH]:<{_NAME_WIDTH}}\t"
    if said.event in _MOVING:
        share = said.progress / said.total if said.total else 0.0
        moved = f"{display.binary_size(said.progress)[:8]:>8}/{display.binary_size(said.total)}"
        return f"{head}{said.event:<11}\t{bar(min(share, 1.0))}\t{moved}\t"
    if said.event in _EMPTY or said.event in _FULL:
        return f"{head}{said.event:<11}\t{bar(0.0 if said.event in _EMPTY else 1.0)}\t"
    return f"{head}{said.event}\t"


def short_name(name: str) -> str:
    """`manifest (0123456789ab)` of `manifest-sha256:0123456789ab...`."""
    parts = name.split("-")
    return " ".join(
        f"({part[7:19]})" if part.startswith("sha256:") and len(part) == _HEX else part for part in parts
    )
