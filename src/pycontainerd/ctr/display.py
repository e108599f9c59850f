"""Tables, sizes, ages and times as Go's tabwriter, go-units and time.Time print them."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Final

    from pycontainerd.lib.api.light import wkt

SPACES: Final = (1, 8, 1, " ")
WIDE: Final = (4, 8, 4, " ")
TABS: Final = (1, 8, 1, "\t")
VALUES: Final = (1, 8, 4, " ")

Layout = tuple[int, int, int, str]


def tabulate(text: str, layout: Layout) -> str:
    """Aligns tab-terminated cells. `layout` is (minwidth, tabwidth, padding, padchar) of Go's text/tabwriter.

    A column is a run of consecutive lines that have a tab-terminated cell there, so a trailing tab matters: it makes
    the last cell part of a column, and padded.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    out: list[str] = []
    _format(lines, 0, len(lines), [], layout, out)
    return "\n".join(out)


def _format(
    lines: list[list[str]], start: int, end: int, widths: list[int], layout: Layout, out: list[str]
) -> None:
    column = len(widths)
    position = start
    while position < end:
        if column >= len(lines[position]) - 1:
            position += 1
            continue
        out += [_line(cells, widths, layout) for cells in lines[start:position]]
        start = position
        width = layout[0]
        while position < end and column < len(lines[position]) - 1:
            width = max(width, len(lines[position][column]) + layout[2])
            position += 1
        _format(lines, start, position, [*widths, width], layout, out)
        start = position
    out += [_line(cells, widths, layout) for cells in lines[start:end]]


def _line(cells: Sequence[str], widths: Sequence[int], layout: Layout) -> str:
    parts: list[str] = []
    for column, cell in enumerate(cells):
        parts.append(cell)
        if column < len(widths):
            parts.append(_padding(len(cell), widths[column], layout))
    return "".join(parts)


def _padding(text_width: int, width: int, layout: Layout) -> str:
    _, tab_width, _, character = layout
    if character == "\t":
        width = -(-width // tab_width) * tab_width
        return "\t" * -(-(width - text_width) // tab_width)
    return character * (width - text_width)


def table(header: str, rows: Iterable[str], layout: Layout) -> None:
    """Prints a header and rows (each with its own tabs) aligned."""
    write(tabulate("\n".join([header, *rows]) + "\n", layout))


def write(text: str) -> None:
    """Writes to stdout, whole, in the file system's encoding (ids and labels may hold any bytes)."""
    import os
    import sys

    sys.stdout.flush()
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[os.write(1, data) :]


def write_json(value: Any, indent: int = 4) -> None:
    """Prints JSON as Go's encoder with SetIndent does."""
    write(go_json(value, indent) + "\n")


def go_json(value: Any, indent: int | None = None) -> str:
    """JSON as encoding/json writes it: keys in the given order, `<`, `>` and `&` escaped."""
    import json

    separators = (",", ": ") if indent else (",", ":")
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=False)
    if "<" in text or ">" in text or "&" in text or "\u2028" in text or "\u2029" in text:
        for character in "<>&\u2028\u2029":
            text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def any_json(value: wkt.Any) -> dict[str, str]:
    """A packed message as Go's encoder prints an Any: its type, and its bytes in base64."""
    import base64

    out = {"type_url": value.type_url}
    if value.value:
        out["value"] = base64.b64encode(value.value).decode()
    return out


def binary_size(size: int) -> str:
    """`1.0 MiB`: containerd's progress.Bytes."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            return f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def decimal_size(size: int) -> str:
    """`72.29MB`: go-units HumanSize, four significant digits."""
    value = float(size)
    units = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
    place = 0
    while value >= 1000 and place < len(units) - 1:
        value /= 1000
        place += 1
    return f"{value:.4g}{units[place]}"


def human_age(seconds: float) -> str:
    """`4 minutes`: go-units HumanDuration."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, unit, name in (
        (24 * 14, 24, "days"),
        (24 * 60, 24 * 7, "weeks"),
        (24 * 730, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{int(seconds / 3600) // 24 // 365} years"


def label_text(labels: dict[str, str], missing: str = "-") -> str:
    """`a=b,c=d` in key order (Go's map order is random)."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) or missing


def rfc3339(seconds: int, nanos: int) -> str:
    """A UTC time with as many digits as it has (Go's RFC3339Nano); the zero time is year 1."""
    digits = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{_utc('%Y-%m-%dT%H:%M:%S', seconds)}{digits}Z"


def rfc3339_local(seconds: int) -> str:
    """A local time in whole seconds (Go's RFC3339)."""
    import time

    local = time.localtime(seconds)
    offset = local.tm_gmtoff
    zone = f"{'+' if offset >= 0 else '-'}{abs(offset) // 3600:02d}:{abs(offset) % 3600 // 60:02d}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + (zone if offset else "Z")


def go_time(seconds: int, nanos: int) -> str:
    """`2020-01-01 00:29:16.295322149 +0000 UTC`: time.Time's String of a UTC time."""
    digits = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{_utc('%Y-%m-%d %H:%M:%S', seconds)}{digits} +0000 UTC"


def _utc(pattern: str, seconds: int) -> str:
    import time

    if seconds <= -62135596800:
        return "0001-01-01" + ("T" if "T" in pattern else " ") + "00:00:00"
    return time.strftime(pattern, time.gmtime(seconds))


def print_rows(
    rows: Sequence[dict[str, Any]], form: str, render: Callable[[Sequence[dict[str, Any]]], None]
) -> None:
    """A list as a table (`render`) or, with --format json, as JSON for programs; InvalidArgument for other formats."""
    if form == "json":
        write_json(list(rows), 2)
    elif form == "table":
        render(rows)
    else:
        from pycontainerd.lib.errdefs import InvalidArgument

        raise InvalidArgument("format must be table or json")
