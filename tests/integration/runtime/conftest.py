"""A runtime with a state root of the test's own, and a bundle to change."""

from __future__ import annotations

import pytest

from support.bundle import BundleBuilder
from support.runtime import Runtime


@pytest.fixture
def runtime(short_tmp):
    made = Runtime(short_tmp / "root")
    yield made
    made.clean()


@pytest.fixture
def bundle(short_tmp) -> BundleBuilder:
    return BundleBuilder(short_tmp)
