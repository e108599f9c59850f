"""Namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.daemon.core.namespaces import Namespace, NamespaceStore
from pycontainerd.daemon.core.scope import require_scope
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import events, namespaces_v1, wkt
from pycontainerd.lib.errdefs import ContainerdError

if TYPE_CHECKING:
    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.events import Exchange


class NamespacesService:
    """containerd.services.namespaces.v1.Namespaces."""

    def __init__(self, store: NamespaceStore, pools: Pools, exchange: Exchange) -> None:
        self._store = store
        self._pools = pools
        self._exchange = exchange

    def get(
        self, call: Call, request: namespaces_v1.GetNamespaceRequest
    ) -> namespaces_v1.GetNamespaceResponse:
        del call
        found = self._pools.quick(self._store.get, request.name)
        return namespaces_v1.GetNamespaceResponse(namespace=_to_wire(found))

    async def list(
        self, call: Call, request: namespaces_v1.ListNamespacesRequest
    ) -> namespaces_v1.ListNamespacesResponse:
        del call, request
        found = await self._pools.run("metadata", self._store.list)
        return namespaces_v1.ListNamespacesResponse(namespaces=[_to_wire(n) for n in found])

    async def create(
        self, call: Call, request: namespaces_v1.CreateNamespaceRequest
    ) -> namespaces_v1.CreateNamespaceResponse:
        namespace = _from_wire(request.namespace)
        await self._pools.run("metadata", self._store.create, namespace)
        message = events.NamespaceCreate(name=namespace.name, labels=dict(namespace.labels))
        self._publish(_publisher(call), "/namespaces/create", message)
        return namespaces_v1.CreateNamespaceResponse(namespace=request.namespace)

    async def update(
        self, call: Call, request: namespaces_v1.UpdateNamespaceRequest
    ) -> namespaces_v1.UpdateNamespaceResponse:
        namespace = _from_wire(request.namespace)
        await self._pools.run("metadata", self._store.update, namespace, wire.mask_paths(request))
        message = events.NamespaceUpdate(name=namespace.name, labels=dict(namespace.labels))
        self._publish(_publisher(call), "/namespaces/update", message)
        return namespaces_v1.UpdateNamespaceResponse(namespace=namespaces_v1.Namespace())

    async def delete(self, call: Call, request: namespaces_v1.DeleteNamespaceRequest) -> wkt.Empty:
        del call
        await self._pools.run("metadata", self._store.delete, request.name)
        self._publish(request.name, "/namespaces/delete", events.NamespaceDelete(name=request.name))
        return wire.EMPTY

    def _publish(self, namespace: str, topic: str, message: object) -> None:
        self._exchange.publish(namespace, topic, wire.event(message))


def _publisher(call: Call) -> str:
    """The namespace an event goes out in: as in containerd, the change stands even when there is none."""
    try:
        return require_scope(call.namespace).namespace
    except ContainerdError as e:
        raise type(e)(f"failed publishing event: {e}") from e


def _to_wire(namespace: Namespace) -> namespaces_v1.Namespace:
    return namespaces_v1.Namespace(name=namespace.name, labels=dict(namespace.labels))


def _from_wire(message: namespaces_v1.Namespace) -> Namespace:
    return Namespace(message.name, dict(message.labels))
