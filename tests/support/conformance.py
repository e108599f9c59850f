"""Reads the tables of docs/conformance.md."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[2] / "docs/conformance.md").read_text()
# What both versions of cgroups have tests for: name, tests, tests on version 2, note.
RUNTIME_TABLES = ("config.json", "Command line of pyrunc")
_NAMED = re.compile(r"`([\w/]+\.py)(?:::(test_\w+))?`")


def section(title: str) -> str:
    """The text below a heading, up to the next of its level."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without heads and rules."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    rules = [at for at, line in enumerate(cells) if set(line[0]) == {"-"}]
    return [line for at, line in enumerate(cells) if at not in rules and at + 1 not in rules]


def named(text: str) -> list[tuple[str, str]]:
    """(file below tests, function or "") of the tests that a text names."""
    return _NAMED.findall(text)


def of_version_2(row: list[str]) -> list[tuple[str, str]]:
    """The tests that a row of a runtime's table has for cgroup version 2; of "same", one at least must be of it."""
    _name, tests, there, _note = row
    return [(file, test) for file, test in named(tests if there == "same" else there) if test]
