"""argv as Go's flag package reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.runtime.cli.flags import COMMANDS, GLOBAL, find
from pycontainerd.runtime.cli.parse import HelpWanted, UsageError, parse, parse_duration

RUN = find("run").flags
EXEC = find("exec").flags


@pytest.mark.parametrize(
    "words", [["-b", "x"], ["--b", "x"], ["-bundle", "x"], ["--bundle", "x"], ["--bundle=x"], ["-b=x"]]
)
def test_one_dash_or_two_and_both_ways_to_give_a_value(words):
    found = parse(RUN, [*words, "id"])
    assert found.text("bundle") == "x"
    assert found.args == ["id"]


def test_flags_end_at_the_first_argument():
    assert parse(EXEC, ["-t", "c", "ls", "-l", "--tty"]).args == ["c", "ls", "-l", "--tty"]


def test_two_dashes_end_flags():
    assert parse(EXEC, ["--", "-c"]).args == ["-c"]


def test_a_lone_dash_is_an_argument():
    assert parse(EXEC, ["-"]).args == ["-"]


def test_lists_collect():
    assert parse(EXEC, ["-e", "A=1", "--env", "B=2=3", "c"]).words("env") == ["A=1", "B=2=3"]


@pytest.mark.parametrize(("value", "on"), [("true", True), ("1", True), ("F", False), ("false", False)])
def test_booleans_take_a_value_only_with_an_equals_sign(value, on):
    assert parse(RUN, [f"--detach={value}", "c"]).on("detach") is on


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--nope"], "flag provided but not defined: -nope"),
        (["--bundle"], "flag needs an argument: -bundle"),
        (["---x"], "bad flag syntax: ---x"),
        (["--=x"], "bad flag syntax: --=x"),
        (["--detach=maybe"], 'invalid boolean value "maybe" for -detach: parse error'),
        (["--preserve-fds", "x"], 'invalid value "x" for flag -preserve-fds: parse error'),
        (["--preserve-fds", "1_0"], 'invalid value "1_0" for flag -preserve-fds: parse error'),
        (["--preserve-fds", "٣"], 'invalid value "٣" for flag -preserve-fds: parse error'),
    ],
)
def test_usage_errors_are_gos(words, text):
    with pytest.raises(UsageError) as found:
        parse(RUN, words)
    assert str(found.value) == text


@pytest.mark.parametrize("word", ["-h", "--help", "-help"])
def test_help(word):
    with pytest.raises(HelpWanted):
        parse(RUN, [word])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("0", 0),
        ("x", -1),
        ("5", -1),
        ("", -1),
        ("s", -1),
        ("1..2s", -1),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_command_line_is_read_or_refused(words):
    for command in COMMANDS:
        try:
            found = parse(command.flags, words)
        except (UsageError, HelpWanted):
            continue
        assert found.args == words[len(words) - len(found.args) :]


def test_no_name_is_used_twice():
    for flags in (GLOBAL, *(command.flags for command in COMMANDS)):
        names = [name for flag in flags for name in (flag.name, flag.alias) if name]
        assert len(names) == len(set(names))
