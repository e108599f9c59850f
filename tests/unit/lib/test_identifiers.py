"""Identifiers: what containerd takes as a name, and its texts for what it doesn't."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib import identifiers
from pycontainerd.lib.errdefs import InvalidArgument


@pytest.mark.parametrize("name", ["a", "0", "u-1", "a.b_c-d", "A" * 76])
def test_valid_names_pass(name: str) -> None:
    identifiers.require_valid(name)


@pytest.mark.parametrize(
    "name", [".", "..", "-a", "a-", "a..b", "a--b", "a/b", "a b", "a\n", "é", "\u0660", "a\0", "x/../y"]
)
def test_names_outside_the_pattern_are_refused_with_containerds_text(name: str) -> None:
    with pytest.raises(InvalidArgument, match="must match"):
        identifiers.require_valid(name)


def test_text_for_a_space_equals_containerds() -> None:
    with pytest.raises(InvalidArgument) as caught:
        identifiers.require_valid("a b")
    assert str(caught.value) == (
        'identifier "a b" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument'
    )


def test_empty_and_long_names_have_their_own_texts() -> None:
    with pytest.raises(InvalidArgument, match="must not be empty"):
        identifiers.require_valid("")
    with pytest.raises(InvalidArgument, match="greater than maximum length"):
        identifiers.require_valid("a" * 77)


@given(st.text())
def test_agrees_with_the_regular_expression(name: str) -> None:
    import re

    expected = re.fullmatch(identifiers.PATTERN.strip("^$"), name) is not None and len(name) <= 76
    assert identifiers.is_valid(name) == expected
