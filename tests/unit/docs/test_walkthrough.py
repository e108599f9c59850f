"""docs/walkthrough.md names, for every id of the classic notes, tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[3]
ROWS = re.findall(
    r"^\| (S\d{3}) \| (.+?) \| (.*?) \| (.*) \|$", (TOP / "docs/walkthrough.md").read_text(), re.MULTILINE
)


def test_every_id_has_one_row() -> None:
    ids = [row[0] for row in ROWS]
    assert ids == [f"S{number:03}" for number in range(1, 81)]


@pytest.mark.parametrize(("id_", "tests"), [(row[0], row[2]) for row in ROWS])
def test_the_tests_of_an_id_exist(id_: str, tests: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", tests)
    assert named, f"{id_} names no test"
    assert tests == "<br>".join(f"`{path}::{name}`" for path, name in named)
    for path, name in named:
        source = (TOP / "tests" / path).read_text()
        assert re.search(rf"^ *def {name}\(", source, re.MULTILINE), f"{id_}: {path} has no {name}"
