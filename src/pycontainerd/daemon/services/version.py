"""Version: who answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.lib.api.full import version_v1, wkt

if TYPE_CHECKING:
    from pycontainerd.daemon.core.call import Call


class VersionService:
    """containerd.services.version.v1.Version."""

    def __init__(self, version: str, revision: str) -> None:
        self._version = version
        self._revision = revision

    def version(self, call: Call, request: wkt.Empty) -> version_v1.VersionResponse:
        del call, request
        return version_v1.VersionResponse(version=self._version, revision=self._revision)
