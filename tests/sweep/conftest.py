"""Long runs: a sample of each by default, all of it with SWEEP=full (`make sweep`)."""

from __future__ import annotations

import os

import pytest

from support.bundle import BundleBuilder
from support.runtime import Runtime

FULL = os.environ.get("SWEEP") == "full"


@pytest.fixture
def amount():
    """`amount(sample, full)`: how often, here."""
    return lambda sample, full: full if FULL else sample


@pytest.fixture
def runtime(short_tmp):
    made = Runtime(short_tmp / "root")
    yield made
    made.clean()


@pytest.fixture
def bundle(short_tmp) -> BundleBuilder:
    return BundleBuilder(short_tmp)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if FULL:
        for item in items:
            item.add_marker(pytest.mark.timeout(0))
