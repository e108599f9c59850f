"""docs/conformance.md against what it is about: the schema, the command line, and the tests that it names."""

from __future__ import annotations

import re

import pytest

from pycontainerd.lib.oci.runtime import SPEC
from pycontainerd.runtime.cli.flags import COMMANDS, GLOBAL
from support.programs import TOP

TESTS = TOP / "tests"
TEXT = (TOP / "docs/conformance.md").read_text()


def section(title):
    """The rows of a table, without its two lines of heading."""
    body = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip(" |") for cell in row] for row in rows[2:]]


PROPERTIES = {row[0].strip("`"): row[1:] for row in section("config.json")}
FLAGS = {row[0].strip("`"): row[1:] for row in section("Flags")}
UNPROVEN = [
    name for row in section("Built, and not shown by a test") for name in re.findall(r"`([^`]+)`", row[0])
]


def leaves(schema, path=""):
    if isinstance(schema, list):
        yield from leaves(schema[0], f"{path}[]")
    elif isinstance(schema, dict):
        for key, item in schema.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    else:
        yield path


def is_below(leaf, name):
    return leaf == name or leaf.startswith((f"{name}.", f"{name}["))


ALL_FLAGS = [f"--{flag.name}" for flag in GLOBAL] + [
    f"{command.name} --{flag.name}" for command in COMMANDS for flag in command.flags
]


@pytest.mark.parametrize("leaf", sorted(leaves(SPEC)))
def test_every_property_has_a_row(leaf):
    assert any(is_below(leaf, name) for name in (*PROPERTIES, *UNPROVEN))


@pytest.mark.parametrize("flag", ALL_FLAGS)
def test_every_flag_has_a_row(flag):
    assert any(flag == name or flag.startswith(f"{name} ") for name in (*FLAGS, *UNPROVEN))


def test_every_row_is_about_something():
    found = list(leaves(SPEC))
    for name in PROPERTIES:
        assert any(is_below(leaf, name) for leaf in found), name
    commands = {command.name for command in COMMANDS}
    for name in FLAGS:
        assert name in commands or name in ALL_FLAGS, name
    for name in UNPROVEN:
        known = any(is_below(leaf, name) for leaf in found) or name in ALL_FLAGS
        assert known or name in ("create", "run"), name


@pytest.mark.parametrize(
    ("name", "where", "test"), [(name, *row) for name, row in (*PROPERTIES.items(), *FLAGS.items())]
)
def test_every_test_that_is_named_is_there(name, where, test):
    assert where in ("both", "ours", "unit"), name
    file, _, function = test.partition("::")
    paths = [path for path in TESTS.rglob(file) if ("unit" in path.parts) == (where == "unit")]
    assert any(re.search(rf"def {function}\(", path.read_text()) for path in paths), test
