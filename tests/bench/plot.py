"""The ratios as a picture: one bar per row, a line at 1 (as fast as the peer), a mark where the aim is. SVG, no library.

The scale is logarithmic, so that twice as fast and half as fast are equally far from the line.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.__main__ import Row

_ROW, _LABEL, _WIDTH, _MARGIN = 20, 420, 460, 16
_LOWEST, _HIGHEST = 0.125, 8.0
_TICKS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_LEGEND = "ours / peer: left of the line is less time or memory; the triangle is the aim"
_BETTER, _WORSE, _INK, _FAINT = "#2f7d5b", "#b4552d", "#222", "#ccc"


def svg(rows: Sequence[Row]) -> str:
    """The whole document."""
    height = _ROW * (len(rows) + 2) + _MARGIN
    width = _LABEL + _WIDTH + 4 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_MARGIN}" y="{_MARGIN}" fill="{_INK}">{_LEGEND}</text>',
    ]
    for tick in _TICKS:
        x = _x(tick)
        color = _INK if tick == 1 else _FAINT
        parts.append(f'<line x1="{x:.1f}" y1="{_ROW}" x2="{x:.1f}" y2="{height - _ROW}" stroke="{color}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle" fill="{_INK}">{tick:g}</text>')
    for number, row in enumerate(rows):
        parts += _bar(_ROW * (number + 1) + 4, row)
    return "\n".join([*parts, "</svg>", ""])


def _bar(top: int, row: Row) -> list[str]:
    line, end = _x(1.0), _x(row.ratio)
    color = _BETTER if row.ratio <= 1 else _WORSE
    label = escape(f"{row.case}, {row.peer}")
    middle = top + _ROW / 2
    parts = [
        f'<text x="{_LABEL}" y="{middle + 2}" text-anchor="end" fill="{_INK}">{label}</text>',
        f'<rect x="{min(line, end):.1f}" y="{top}" width="{max(abs(end - line), 1):.1f}" height="{_ROW - 8}" fill="{color}"/>',
        f'<text x="{max(line, end) + 4:.1f}" y="{middle + 2}" fill="{_INK}">{row.ratio:.2f}</text>',
    ]
    if row.aim is not None:
        x = _x(row.aim)
        corners = f"{x:.1f},{top + 4} {x - 4:.1f},{top - 4} {x + 4:.1f},{top - 4}"
        parts.append(f'<polygon points="{corners}" fill="{_INK}"/>')
    return parts


def _x(ratio: float) -> float:
    bounded = min(max(ratio, _LOWEST), _HIGHEST)
    share = math.log(bounded / _LOWEST) / math.log(_HIGHEST / _LOWEST)
    return _LABEL + _MARGIN + share * _WIDTH
