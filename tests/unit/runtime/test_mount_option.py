"""Mount options."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib.linux import mount as m
from pycontainerd.runtime.libcontainer.mount_option import (
    EXTENSIONS,
    FLAGS,
    PROPAGATION,
    RECURSIVE,
    parse_options,
    setattr_pair,
)


def test_words_become_flags_and_the_rest_is_data():
    found = parse_options(["nosuid", "ro", "mode=755", "size=64k", "rprivate"])
    assert found.flags == m.MS_NOSUID | m.MS_RDONLY
    assert found.data == ["mode=755", "size=64k"]
    assert found.propagation == [m.MS_PRIVATE | m.MS_REC]


@pytest.mark.parametrize(
    ("words", "flags", "cleared"), [(["ro", "rw"], 0, m.MS_RDONLY), (["rw", "ro"], m.MS_RDONLY, 0)]
)
def test_the_last_word_wins(words, flags, cleared):
    found = parse_options(words)
    assert (found.flags, found.cleared) == (flags, cleared)


def test_recursive_words_are_attributes():
    found = parse_options(["rro", "rnosuid", "rdev"])
    assert found.attr_set == m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID
    assert found.attr_clr == m.MOUNT_ATTR_NODEV


@pytest.mark.parametrize(
    "word", ["rnoatime", "rrelatime", "rstrictatime", "ratime", "rnorelatime", "rnostrictatime"]
)
def test_access_times_clear_the_whole_field(word):
    assert parse_options([word]).attr_clr & m.MOUNT_ATTR__ATIME == m.MOUNT_ATTR__ATIME


@given(st.lists(st.sampled_from([*FLAGS, *RECURSIVE, *PROPAGATION, *EXTENSIONS])))
def test_nothing_is_set_and_cleared_at_once(words):
    found = parse_options(words)
    assert found.flags & found.cleared == 0
    assert found.data == []
    attr_set, attr_clr = setattr_pair(found.flags, found.cleared)
    assert attr_set & attr_clr & ~m.MOUNT_ATTR__ATIME == 0


@given(st.lists(st.text(min_size=1)))
def test_any_word_is_read(words):
    known = {**FLAGS, **RECURSIVE, **PROPAGATION, **EXTENSIONS}
    assert parse_options(words).data == [word for word in words if word not in known]
