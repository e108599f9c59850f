"""Flags as Go's flag package and urfave/cli read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.ctr import flags
from pycontainerd.ctr.flags import BOOL, DURATION, FLOAT, INT, STRING, STRINGS, UINT, Flag, UsageError, Values

FLAGS = (
    Flag("quiet, q", BOOL, "x"),
    Flag("name, n", STRING, "x", default="d", env="NAME"),
    Flag("env", STRINGS, "x"),
    Flag("limit", UINT, "x"),
    Flag("quota", INT, "x", default=-1),
    Flag("cpus", FLOAT, "x"),
    Flag("expires, x", DURATION, "x", default=24 * 3600 * 10**9),
)


def parse(
    *argv: str, anywhere: bool = False, environ: dict[str, str] | None = None
) -> tuple[Values, list[str]]:
    values = Values(FLAGS, environ or {})
    return values, flags.parse(values, argv, anywhere=anywhere)


def test_every_way_to_write_a_flag() -> None:
    values, arguments = parse(
        "-q", "--name=a=b", "-env", "A=1", "--env", "B=2", "-limit=0x10", "--quota", "-5", "rest", "-q"
    )
    assert (values.on("quiet"), values.text("name"), values.texts("env")) == (True, "a=b", ("A=1", "B=2"))
    assert (values.number("limit"), values.number("quota"), arguments) == (16, -5, ["rest", "-q"])


def test_defaults_and_environment() -> None:
    values, _ = parse()
    assert (values.text("name"), values.is_set("name"), values.number("quota")) == ("d", False, -1)
    values, _ = parse(environ={"NAME": "e"})
    assert (values.text("name"), values.is_set("name")) == ("e", True)


def test_known_flags_may_follow_arguments_where_nothing_is_run() -> None:
    values, arguments = parse("a", "-q", "b", "--nosuch", "--", "-q", anywhere=True)
    assert (values.on("quiet"), arguments) == (True, ["a", "b", "--nosuch", "-q"])


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--foo"], "flag provided but not defined: -foo"),
        (["-n"], "flag needs an argument: -n"),
        (["-q=maybe"], 'invalid boolean value "maybe" for -q: parse error'),
        (["--limit=x"], 'invalid value "x" for flag -limit: parse error'),
        (["--limit=-1"], 'invalid value "-1" for flag -limit: parse error'),
        (["--limit", "1__0"], 'invalid value "1__0" for flag -limit: parse error'),
        (["--limit", str(1 << 64)], f'invalid value "{1 << 64}" for flag -limit: value out of range'),
        (["--expires=5"], 'invalid value "5" for flag -expires: parse error'),
        (["---x"], "bad flag syntax: ---x"),
    ],
)
def test_texts_for_bad_flags_equal_gos(argv: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(*argv)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("text", "nanos"),
    [("0", 0), ("1h30m", 5400 * 10**9), ("1.5s", 1500 * 10**6), ("-2ms", -2_000_000), ("3µs", 3000)],
)
def test_durations(text: str, nanos: int) -> None:
    assert flags.parse_duration(text) == nanos


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "0s"),
        (39_108_269, "39.108269ms"),
        (86_400 * 10**9, "24h0m0s"),
        (1500, "1.5µs"),
        (61 * 10**9, "1m1s"),
        (1, "1ns"),
    ],
)
def test_durations_print_as_gos(nanos: int, text: str) -> None:
    assert flags.format_duration(nanos) == text


@given(st.integers(min_value=0, max_value=10**15))
def test_durations_survive_the_round_trip(nanos: int) -> None:
    assert abs(flags.parse_duration(flags.format_duration(nanos)) - nanos) <= nanos * 1e-15


@given(st.lists(st.text(max_size=8), max_size=6))
def test_no_command_line_breaks_the_parser(argv: list[str]) -> None:
    try:
        parse(*argv, anywhere=True)
    except UsageError:
        return
