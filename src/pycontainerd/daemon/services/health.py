"""Health: SERVING while the daemon runs. Spec: grpc.health.v1"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pycontainerd.lib.api.full import health_v1
from pycontainerd.lib.errdefs import NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pycontainerd.daemon.core.call import Call


class HealthService:
    """grpc.health.v1.Health; only the server as a whole ("") has a status, as in containerd."""

    def check(self, call: Call, request: health_v1.HealthCheckRequest) -> health_v1.HealthCheckResponse:
        del call
        if request.service:
            raise NotFound("unknown service")
        return _serving()

    async def watch(
        self, call: Call, request: health_v1.HealthCheckRequest
    ) -> AsyncIterator[health_v1.HealthCheckResponse]:
        del call
        if request.service:
            yield health_v1.HealthCheckResponse(
                status=health_v1.HealthCheckResponse.ServingStatus.SERVICE_UNKNOWN
            )
        else:
            yield _serving()
        await asyncio.get_running_loop().create_future()  # until the client goes or the daemon stops


def _serving() -> health_v1.HealthCheckResponse:
    return health_v1.HealthCheckResponse(status=health_v1.HealthCheckResponse.ServingStatus.SERVING)
