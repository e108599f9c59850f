"""Sandboxes that run, by the controller a request names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.daemon.services import wire
from pycontainerd.daemon.services.sandboxes import from_wire
from pycontainerd.lib.api.full import events, sandbox_v1, types
from pycontainerd.lib.errdefs import InvalidArgument, NotFound, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.events import Exchange
    from pycontainerd.daemon.core.sandboxes import Controller, Sandbox, SandboxStore


class SandboxControllerService:
    """containerd.services.sandbox.v1.Controller."""

    def __init__(
        self, controllers: Mapping[str, Controller], store: SandboxStore, pools: Pools, exchange: Exchange
    ) -> None:
        self._controllers = controllers
        self._store = store
        self._pools = pools
        self._exchange = exchange

    async def create(
        self, call: Call, request: sandbox_v1.ControllerCreateRequest
    ) -> sandbox_v1.ControllerCreateResponse:
        controller = self._controller(request.sandboxer)
        await controller.create(
            call.scope,
            self._record(call, request),
            wire.core_mounts(request.rootfs),
            wire.typed(request, "options"),
            request.netns_path,
            dict(request.annotations),
        )
        message = events.SandboxCreate(sandbox_id=request.sandbox_id)
        self._exchange.publish(call.scope.namespace, "/sandboxes/create", wire.event(message))
        return sandbox_v1.ControllerCreateResponse(sandbox_id=request.sandbox_id)

    async def start(
        self, call: Call, request: sandbox_v1.ControllerStartRequest
    ) -> sandbox_v1.ControllerStartResponse:
        started = await self._controller(request.sandboxer).start(call.scope, request.sandbox_id)
        message = events.SandboxStart(sandbox_id=request.sandbox_id)
        self._exchange.publish(call.scope.namespace, "/sandboxes/start", wire.event(message))
        return sandbox_v1.ControllerStartResponse(
            sandbox_id=request.sandbox_id,
            pid=started.pid,
            created_at=wire.timestamp(started.created_nanos),
            address=started.address,
            version=started.version,
            spec=wire.any_of(started.spec),
        )

    async def platform(
        self, call: Call, request: sandbox_v1.ControllerPlatformRequest
    ) -> sandbox_v1.ControllerPlatformResponse:
        found = await self._controller(request.sandboxer).platform(call.scope, request.sandbox_id)
        platform = types.Platform(os=found.os, architecture=found.architecture, variant=found.variant)
        return sandbox_v1.ControllerPlatformResponse(platform=platform)

    async def stop(
        self, call: Call, request: sandbox_v1.ControllerStopRequest
    ) -> sandbox_v1.ControllerStopResponse:
        controller = self._controller(request.sandboxer)
        await controller.stop(call.scope, request.sandbox_id, request.timeout_secs)
        return sandbox_v1.ControllerStopResponse()

    async def wait(
        self, call: Call, request: sandbox_v1.ControllerWaitRequest
    ) -> sandbox_v1.ControllerWaitResponse:
        end = await self._controller(request.sandboxer).wait(call.scope, request.sandbox_id)
        exited = wire.timestamp(end.exited_nanos)
        message = events.SandboxExit(sandbox_id=request.sandbox_id, exit_status=end.status, exited_at=exited)
        self._exchange.publish(call.scope.namespace, "/sandboxes/exit", wire.event(message))
        return sandbox_v1.ControllerWaitResponse(exit_status=end.status, exited_at=exited)

    async def status(
        self, call: Call, request: sandbox_v1.ControllerStatusRequest
    ) -> sandbox_v1.ControllerStatusResponse:
        controller = self._controller(request.sandboxer)
        status = await controller.status(call.scope, request.sandbox_id, verbose=request.verbose)
        return sandbox_v1.ControllerStatusResponse(
            sandbox_id=request.sandbox_id,
            pid=status.pid,
            state=status.state,
            info=dict(status.info),
            created_at=wire.timestamp(status.created_nanos),
            exited_at=wire.timestamp(status.exited_nanos) if status.exited_nanos else None,
            extra=wire.any_of(status.extra),
            address=status.address,
            version=status.version,
        )

    async def shutdown(
        self, call: Call, request: sandbox_v1.ControllerShutdownRequest
    ) -> sandbox_v1.ControllerShutdownResponse:
        await self._controller(request.sandboxer).shutdown(call.scope, request.sandbox_id)
        return sandbox_v1.ControllerShutdownResponse()

    async def metrics(
        self, call: Call, request: sandbox_v1.ControllerMetricsRequest
    ) -> sandbox_v1.ControllerMetricsResponse:
        taken, data = await self._controller(request.sandboxer).metrics(call.scope, request.sandbox_id)
        metric = types.Metric(timestamp=wire.timestamp(taken), id=request.sandbox_id, data=wire.any_of(data))
        return sandbox_v1.ControllerMetricsResponse(metrics=metric)

    async def update(
        self, call: Call, request: sandbox_v1.ControllerUpdateRequest
    ) -> sandbox_v1.ControllerUpdateResponse:
        """Refused: shims' sandbox service has no method for it."""
        del call
        self._controller(request.sandboxer)
        raise Unimplemented("a running sandbox cannot be updated: not implemented")

    def _controller(self, name: str) -> Controller:
        if not name:
            raise InvalidArgument("invalid argument: sandbox controller name can not be empty")
        controller = self._controllers.get(name)
        if controller is None:
            raise NotFound(f"not found: failed to get sandbox controller by {name}")
        return controller

    def _record(self, call: Call, request: sandbox_v1.ControllerCreateRequest) -> Sandbox:
        """What to run: the record in the request, or the store's for clients older than that field."""
        if request.HasField("sandbox"):
            return from_wire(request.sandbox)
        return self._pools.quick(self._store.get, call.scope, request.sandbox_id)
