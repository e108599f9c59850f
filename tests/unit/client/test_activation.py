"""Mounts made by the daemon: what is asked, and what a daemon without the service is said to lack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pycontainerd.client import activation
from pycontainerd.ctr import image_mount
from pycontainerd.lib.api.light import mounts_v1, types
from pycontainerd.lib.errdefs import NotFound, Unavailable, Unimplemented, Unknown

if TYPE_CHECKING:
    from pycontainerd.lib.api.codec import Message, Service

OVERLAY = types.Mount(type="overlay", source="overlay", options=["lowerdir=/a:/b"])
BIND = types.Mount(type="bind", source="/run/daemon/m/1", options=["rbind"])


class Daemon:
    """Answers the mounts service as a daemon would."""

    def __init__(self, *system: types.Mount, error: Exception | None = None) -> None:
        self._info = types.ActivationInfo(system=list(system))
        self._error = error
        self.asked: list[tuple[str, Message]] = []

    def call(self, service: Service, method: str, request: Message) -> object:
        assert service.name == "containerd.services.mounts.v1.Mounts"
        self.asked.append((method, request))
        if self._error is not None:
            raise self._error
        return mounts_v1.ActivateResponse(info=self._info)


def test_a_snapshot_is_activated_for_a_while() -> None:
    daemon = Daemon(BIND)
    assert activation.activate(daemon, "k", [OVERLAY]) == [BIND]  # type: ignore[arg-type]
    ((method, request),) = daemon.asked
    assert method == "Activate"
    assert isinstance(request, mounts_v1.ActivateRequest)
    assert (request.name, request.temporary, list(request.mounts)) == ("k", True, [OVERLAY])


def test_whether_it_is_served() -> None:
    assert activation.is_served(Daemon())  # type: ignore[arg-type]
    assert activation.is_served(Daemon(error=NotFound("x")))  # type: ignore[arg-type]
    assert not activation.is_served(Daemon(error=Unimplemented("unknown service")))  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        activation.is_served(Daemon(error=Unavailable("gone")))  # type: ignore[arg-type]


def test_a_daemon_without_the_service() -> None:
    daemon = Daemon(error=Unimplemented("unknown service x"))
    with pytest.raises(Unimplemented, match="the daemon can't mount snapshots: unknown service x") as found:
        activation.activate(daemon, "k", [OVERLAY])  # type: ignore[arg-type]
    assert "containerd has the mounts service since 2.2" in found.value.hint


def test_an_image_is_where_the_daemon_mounted_it() -> None:
    assert image_mount.activated(Daemon(BIND), "k", [OVERLAY]) == "/run/daemon/m/1"  # type: ignore[arg-type]


def test_mounts_that_are_left_are_taken_back() -> None:
    daemon = Daemon(OVERLAY)
    with pytest.raises(Unknown, match="cannot handle returned mounts"):
        image_mount.activated(daemon, "k", [OVERLAY])  # type: ignore[arg-type]
    assert [method for method, _ in daemon.asked] == ["Activate", "Deactivate"]
