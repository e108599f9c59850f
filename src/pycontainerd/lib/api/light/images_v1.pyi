from collections.abc import Mapping, Sequence

from pycontainerd.lib.api.codec import Message, Service
from pycontainerd.lib.api.light import types, wkt

__all__ = ['CreateImageRequest', 'CreateImageResponse', 'DeleteImageRequest', 'GetImageRequest', 'GetImageResponse', 'IMAGES', 'Image', 'ImageCreate', 'ImageDelete', 'ImageUpdate', 'ListImagesRequest', 'ListImagesResponse', 'UpdateImageRequest', 'UpdateImageResponse']

class ImageCreate(Message):
    name: str
    labels: dict[str, str]
    def __init__(self, *, name: str = ..., labels: Mapping[str, str] = ...) -> None: ...

class ImageDelete(Message):
    name: str
    def __init__(self, *, name: str = ...) -> None: ...

class ImageUpdate(Message):
    name: str
    labels: dict[str, str]
    def __init__(self, *, name: str = ..., labels: Mapping[str, str] = ...) -> None: ...

class CreateImageRequest(Message):
    image: Image
    source_date_epoch: wkt.Timestamp
    def __init__(self, *, image: Image | None = ..., source_date_epoch: wkt.Timestamp | None = ...) -> None: ...

class CreateImageResponse(Message):
    image: Image
    def __init__(self, *, image: Image | None = ...) -> None: ...

class DeleteImageRequest(Message):
    name: str
    sync: bool
    target: types.Descriptor
    def __init__(self, *, name: str = ..., sync: bool = ..., target: types.Descriptor | None = ...) -> None: ...

class GetImageRequest(Message):
    name: str
    def __init__(self, *, name: str = ...) -> None: ...

class GetImageResponse(Message):
    image: Image
    def __init__(self, *, image: Image | None = ...) -> None: ...

class Image(Message):
    name: str
    labels: dict[str, str]
    target: types.Descriptor
    created_at: wkt.Timestamp
    updated_at: wkt.Timestamp
    def __init__(self, *, name: str = ..., labels: Mapping[str, str] = ..., target: types.Descriptor | None = ..., created_at: wkt.Timestamp | None = ..., updated_at: wkt.Timestamp | None = ...) -> None: ...

class ListImagesRequest(Message):
    filters: list[str]
    def __init__(self, *, filters: Sequence[str] = ...) -> None: ...

class ListImagesResponse(Message):
    images: list[Image]
    def __init__(self, *, images: Sequence[Image] = ...) -> None: ...

class UpdateImageRequest(Message):
    image: Image
    update_mask: wkt.FieldMask
    source_date_epoch: wkt.Timestamp
    def __init__(self, *, image: Image | None = ..., update_mask: wkt.FieldMask | None = ..., source_date_epoch: wkt.Timestamp | None = ...) -> None: ...

class UpdateImageResponse(Message):
    image: Image
    def __init__(self, *, image: Image | None = ...) -> None: ...

IMAGES: Service
