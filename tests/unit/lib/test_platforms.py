"""Platforms: aliases and which manifest of an index wins."""

import pytest

from pycontainerd.lib import platforms
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.platforms import Platform


@pytest.mark.parametrize(
    ("text", "formatted"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/aarch64/v8", "linux/arm64"),
        ("arm64", "linux/arm64"),
        ("Linux/AMD64/v1", "linux/amd64"),
    ],
)
def test_specifiers(text: str, formatted: str) -> None:
    assert str(platforms.parse(text)) == formatted


@pytest.mark.parametrize("text", ["", "*", "linux/*", "a/b/c/d", "nothing", "linux//amd64", "linux/am d"])
def test_bad_specifiers_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        platforms.parse(text)


def test_best_match_comes_first_and_foreign_ones_never() -> None:
    index = [
        Platform("linux", "386"),
        Platform("linux", "s390x"),
        Platform("linux", "amd64"),
        Platform("unknown", "unknown"),
    ]
    assert platforms.best(index, platforms.only(Platform("linux", "amd64"))) == [2, 0]


def test_arm_takes_the_nearest_lower_variant() -> None:
    index = [Platform("linux", "arm", "v5"), Platform("linux", "arm", "v7"), Platform("linux", "arm", "v6")]
    assert platforms.best(index, platforms.only(Platform("linux", "arm", "v7"))) == [1, 2, 0]


def test_everything_keeps_the_order_of_the_index() -> None:
    index = [Platform("linux", "s390x"), None, Platform("windows", "amd64")]
    assert platforms.best(index, platforms.everything()) == [0, 2, 1]
