"""docs/conformance.md names tests that exist, and exactly the differences that the tests let pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.conformance import RUNTIME_TABLES, TEXT, named, of_version_2, rows, section
from vm.selection import BATCHES, RUNTIME_TESTS, files

TOP = Path(__file__).resolve().parents[3]
ATTACKS = ("Attacks on a runtime", "Attacks on images, the daemon and its API")
_STATED = re.compile(r'(?:differs|ours_only)\(\s*"([^"]+)"\s*\)')


@pytest.mark.parametrize(("file", "test"), sorted(set(named(TEXT))))
def test_a_named_test_exists(file, test):
    path = TOP / "tests" / file
    assert path.exists(), path
    assert not test or re.search(rf"^ *(async )?def {test}\(", path.read_text(), re.MULTILINE), test


def test_the_stated_differences_are_those_that_tests_let_pass():
    stated = {line[0] for line in rows(section("pyrunc beside runc"))}
    used = set()
    for path in (TOP / "tests/integration/runtime").glob("*.py"):
        text = path.read_text()
        assert "skipif(not is_ours()" not in text, f"{path}: state the difference: ours_only(...)"
        used |= set(_STATED.findall(text))
    assert stated == used


@pytest.mark.parametrize(
    "title", [*RUNTIME_TABLES, "Services of pycontainerd", "Services of the shims", *ATTACKS]
)
def test_every_row_names_a_test_or_says_that_it_is_missing(title):
    found = rows(section(title))
    assert len(found) > 20
    for line in found:
        tests = line[2 if title in ATTACKS else 1]
        assert named(tests) or tests.startswith(("missing", "not ")), line


def runs_on_version_2(file: str, test: str) -> bool:
    """Whether `make test-vm` runs a test on cgroup version 2, and the test itself wants no version 1."""
    folder, _, name = file.rpartition("/")
    if folder != "integration/runtime" or name not in files("v2"):
        return False
    text = (TOP / "tests" / file).read_text()
    if re.search(r"^pytestmark = .*cgroup_v1", text, re.MULTILINE):
        return False
    marks = re.search(rf"((?:^[@ )\]].*\n)*)^ *def {test}\(", text, re.MULTILINE)
    return marks is not None and 'requires("cgroup_v1")' not in marks[1].rpartition("\n\n")[2]


@pytest.mark.parametrize("title", RUNTIME_TABLES)
def test_what_is_said_of_version_2_is_what_the_virtual_machine_runs(title):
    for line in rows(section(title)):
        name, tests, there, _note = line
        if there == "same":
            assert any(runs_on_version_2(*one) for one in of_version_2(line)), name
        elif found := of_version_2(line):
            assert all(runs_on_version_2(*one) for one in found), name
        else:
            assert there.startswith("not: ") or tests.startswith("not "), name


def test_what_the_virtual_machine_runs_is_there():
    for _, version, names in BATCHES:
        assert version in ("v1", "v2")
        for name in names:
            assert (TOP / RUNTIME_TESTS / name).exists(), name


def test_a_method_is_compared_where_the_table_says_so():
    calls = (TOP / "tests/interop/test_daemon_grpc.py").read_text()
    for method, _, note in rows(section("Services of pycontainerd")):
        if note == "compared":
            assert f'"{method.strip("`").split("/")[1]}"' in calls, method


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        (ATTACKS[0], [f"R{number:02}" for number in range(1, 28)] + ["K01", "K02"]),
        (
            ATTACKS[1],
            [f"I{number:02}" for number in range(1, 23)] + [f"S{number:02}" for number in range(1, 12)],
        ),
    ],
)
def test_every_attack_has_one_row(title, wanted):
    assert [line[0] for line in rows(section(title))] == wanted


def test_every_method_of_the_api_has_one_row():
    lines = (TOP / "tests/golden/api/api.tsv").read_text().splitlines()[1:]
    methods = sorted("/".join(line.split("\t")[:2]).removeprefix("containerd.") for line in lines)
    named = [
        name
        for title in ("Services of pycontainerd", "Services of the shims")
        for line in rows(section(title))
        for name in re.findall(r"`([\w./]+)`", line[0])
    ]
    found = sorted(name if name.startswith(("runtime.", "task.")) else f"services.{name}" for name in named)
    assert found == methods
