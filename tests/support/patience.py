"""How long tests wait: one factor for machines that are slower than the limits in the tests are made for.

`TEST_TIME_FACTOR=10` makes every limit ten times as long: of a test, of a program that it runs, and of what `seconds` was asked for.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

FACTOR = float(os.environ.get("TEST_TIME_FACTOR", "1"))


def seconds(limit: float) -> float:
    """A limit, as long as it has to be here."""
    return limit * FACTOR


class _Patient(subprocess.Popen[Any]):
    """Programs that may take longer."""

    def wait(self, timeout: float | None = None) -> int:
        return super().wait(None if timeout is None else seconds(timeout))

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        return super().communicate(input, None if timeout is None else seconds(timeout))


def apply(items: list[pytest.Item], usual: float) -> None:
    """Makes the limits of these tests, `usual` seconds where a test has none of its own, and of all programs longer."""
    if FACTOR == 1:
        return
    subprocess.Popen = _Patient  # type: ignore[misc]
    for item in items:
        mark = item.get_closest_marker("timeout")
        limit = mark.args[0] if mark and mark.args else usual
        item.add_marker(pytest.mark.timeout(seconds(limit)), append=False)
