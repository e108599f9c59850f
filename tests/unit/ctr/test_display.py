"""Tables, sizes and times as Go prints them; the expected texts are ctr 1.6's."""

import pytest

from pycontainerd.ctr import display


def test_a_trailing_tab_pads_the_last_column() -> None:
    assert display.tabulate("KEY\tPARENT\t\nk1\ta\t\n", display.SPACES) == "KEY PARENT \nk1  a      \n"


def test_without_it_the_last_cell_stands_free() -> None:
    assert display.tabulate("TASK\tPID\tSTATUS\t\nb2\t8323\tRUNNING\n", display.WIDE) == (
        "TASK    PID     STATUS    \nb2      8323    RUNNING\n"
    )


def test_tabs_as_padding() -> None:
    text = display.tabulate(
        "DIGEST\tSIZE\tAGE\tLABELS\nsha256:1\t201B\tLess than a second\t-\n", display.TABS
    )
    assert text == "DIGEST\t\tSIZE\tAGE\t\t\tLABELS\nsha256:1\t201B\tLess than a second\t-\n"


def test_a_line_without_cells_ends_a_column() -> None:
    text = display.tabulate("ID\tT\t\nlonger\tx\t\n\nM\tV\t\n", display.VALUES)
    assert text == "ID        T    \nlonger    x    \n\nM    V    \n"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0.0 B"), (517, "517.0 B"), (1095855, "1.0 MiB"), (16384, "16.0 KiB")]
)
def test_binary_sizes(size: int, text: str) -> None:
    assert display.binary_size(size) == text


@pytest.mark.parametrize(
    ("size", "text"), [(201, "201B"), (1094672, "1.095MB"), (72290000, "72.29MB"), (0, "0B")]
)
def test_decimal_sizes(size: int, text: str) -> None:
    assert display.decimal_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (61, "About a minute"), (43 * 60, "43 minutes"),
     (3600, "About an hour"), (47 * 3600, "47 hours"), (72 * 3600, "3 days"), (20 * 86400, "2 weeks")],
)  # fmt: skip
def test_ages(seconds: float, text: str) -> None:
    assert display.human_age(seconds) == text


def test_times() -> None:
    assert display.go_time(1577838556, 295322149) == "2020-01-01 00:29:16.295322149 +0000 UTC"
    assert display.rfc3339(1577838556, 295322000) == "2020-01-01T00:29:16.295322Z"
    assert display.rfc3339(-62135596800, 0) == "0001-01-01T00:00:00Z"


def test_json_is_escaped_as_gos() -> None:
    assert display.go_json({"a": "<&>\u2028é"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028é"}'
