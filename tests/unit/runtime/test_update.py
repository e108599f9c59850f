"""What an update of limits adds of those that the container has."""

from __future__ import annotations

import pytest

from pycontainerd.runtime.libcontainer.runc_config import complete

STORED = {
    "cgroups": {"cpu_quota": 40, "cpu_period": 100, "memory": 64, "memory_swap": 128, "cpu_rt_period": 9}
}


@pytest.mark.parametrize(
    ("update", "whole"),
    [
        ({"cpu": {"quota": 20}}, {"cpu": {"quota": 20, "period": 100}}),
        ({"cpu": {"period": 50}}, {"cpu": {"quota": 40, "period": 50}}),
        ({"cpu": {"shares": 5}}, {"cpu": {"shares": 5}}),
        ({"cpu": {"realtimeRuntime": 3}}, {"cpu": {"realtimeRuntime": 3, "realtimePeriod": 9}}),
        ({"memory": {"swap": 256}}, {"memory": {"limit": 64, "swap": 256}}),
        ({"memory": {"limit": 32}}, {"memory": {"limit": 32, "swap": 128}}),
        ({"memory": {"limit": -1}}, {"memory": {"limit": -1}}),
        ({"memory": {"reservation": 1}}, {"memory": {"reservation": 1}}),
        ({"pids": {"limit": 1}}, {"pids": {"limit": 1}}),
    ],
)
def test_complete(update, whole):
    before = {key: dict(value) for key, value in update.items()}
    assert complete(STORED, update) == whole
    assert update == before
