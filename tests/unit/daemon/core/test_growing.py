"""Growth: a reader gets every byte to the verified end, or is told that there will be none."""

from __future__ import annotations

import threading

import pytest

from pycontainerd.daemon.core.growing import Growth
from pycontainerd.lib.errdefs import Unavailable


def test_a_reader_waits_for_more_and_for_the_end():
    growth = Growth("sha256:a")
    growth.advance(5)
    assert growth.wait(0) == 5
    seen = []
    reader = threading.Thread(target=lambda: seen.extend([growth.wait(5), growth.wait(9)]))
    reader.start()
    growth.advance(9)
    while not seen and reader.is_alive():
        reader.join(0.01)
        if growth.wait(5) == 9:
            growth.complete()
    reader.join(5)
    assert seen == [9, 9]


def test_what_was_written_is_read_before_the_end():
    growth = Growth("sha256:a")
    growth.advance(5)
    growth.complete()
    assert (growth.wait(0), growth.wait(5)) == (5, 5)


@pytest.mark.parametrize("size", [0, 5])
def test_a_write_that_ends_early_is_an_error_even_for_bytes_that_are_there(size):
    growth = Growth("sha256:a")
    growth.advance(size)
    growth.give_up()
    with pytest.raises(Unavailable, match="sha256:a: its write ended"):
        growth.wait(0)


def test_leaving_after_the_end_takes_nothing_back():
    growth = Growth("sha256:a")
    growth.advance(5)
    growth.complete()
    growth.give_up()
    assert growth.wait(5) == 5
