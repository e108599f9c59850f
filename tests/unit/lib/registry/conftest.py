"""Two registries of the tests' own, and no login of whoever runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.fake_registry import FakeRegistry, fake_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_docker_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        yield registry


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        yield registry
