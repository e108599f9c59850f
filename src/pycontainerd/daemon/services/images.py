"""Image records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.daemon.core.images import Image, ImageStore
from pycontainerd.daemon.services import wire
from pycontainerd.lib.api.full import images_v1, wkt
from pycontainerd.lib.errdefs import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.call import Call
    from pycontainerd.daemon.core.events import Exchange


class ImagesService:
    """containerd.services.images.v1.Images. `collect` runs garbage collection and waits for it."""

    def __init__(
        self, store: ImageStore, pools: Pools, exchange: Exchange, collect: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self._pools = pools
        self._exchange = exchange
        self._collect = collect

    def get(self, call: Call, request: images_v1.GetImageRequest) -> images_v1.GetImageResponse:
        found = self._pools.quick(self._store.get, call.scope, request.name)
        return images_v1.GetImageResponse(image=to_wire(found))

    async def list(self, call: Call, request: images_v1.ListImagesRequest) -> images_v1.ListImagesResponse:
        found = await self._pools.run("metadata", self._store.list, call.scope, request.filters)
        return images_v1.ListImagesResponse(images=[to_wire(image) for image in found])

    async def create(
        self, call: Call, request: images_v1.CreateImageRequest
    ) -> images_v1.CreateImageResponse:
        if not request.image.name:
            raise InvalidArgument("Image.Name required")
        image = from_wire(request.image)
        created = await self._pools.run("metadata", self._store.create, call.scope, image)
        message = images_v1.ImageCreate(name=created.name, labels=dict(created.labels))
        self._exchange.publish(call.scope.namespace, "/images/create", wire.event(message))
        return images_v1.CreateImageResponse(image=to_wire(created))

    async def update(
        self, call: Call, request: images_v1.UpdateImageRequest
    ) -> images_v1.UpdateImageResponse:
        if not request.image.name:
            raise InvalidArgument("Image.Name required")
        image = from_wire(request.image)
        paths = wire.mask_paths(request)
        updated = await self._pools.run("metadata", self._store.update, call.scope, image, paths)
        message = images_v1.ImageUpdate(name=updated.name, labels=dict(updated.labels))
        self._exchange.publish(call.scope.namespace, "/images/update", wire.event(message))
        return images_v1.UpdateImageResponse(image=to_wire(updated))

    async def delete(self, call: Call, request: images_v1.DeleteImageRequest) -> wkt.Empty:
        target = wire.core_descriptor(request.target) if request.HasField("target") else None
        await self._pools.run("metadata", self._store.delete, call.scope, request.name, target)
        message = images_v1.ImageDelete(name=request.name)
        self._exchange.publish(call.scope.namespace, "/images/delete", wire.event(message))
        if request.sync:
            await self._collect()
        return wire.EMPTY


def to_wire(image: Image) -> images_v1.Image:
    """A core record as a message."""
    return images_v1.Image(
        name=image.name,
        labels=dict(image.labels),
        target=wire.descriptor(image.target),
        created_at=wire.timestamp(image.created_nanos),
        updated_at=wire.timestamp(image.updated_nanos),
    )


def from_wire(message: images_v1.Image) -> Image:
    """The inverse of `to_wire`; times are the store's to set."""
    return Image(message.name, wire.core_descriptor(message.target), dict(message.labels))
