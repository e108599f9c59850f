"""Image documents: descriptors, manifests, indexes and configs, parsed strictly from bytes that nobody vouches for.

A document is JSON without duplicate keys, NaN or trailing bytes, no larger than MAX_DOCUMENT_BYTES; digests are typed
here, so nothing later sees an unchecked one. Unknown fields are ignored, as the spec demands; a known field of the
wrong type is InvalidArgument.

Spec: image-spec descriptor.md, manifest.md, image-index.md, config.md
"""

from __future__ import annotations

from pycontainerd.lib import digest as digests
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.oci import document as documents
from pycontainerd.lib.platforms import Platform

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, TypeVar

    T = TypeVar("T")

MAX_DOCUMENT_BYTES: Final = 4 * 1048 * 1048  # containerd's MaxManifestSize, to the byte
MAX_CHILDREN: Final = 10_000

INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP: Final = LAYER + "+gzip"
LAYER_ZSTD: Final = LAYER + "+zstd"
LAYER_FOREIGN: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD: Final = DOCKER_LAYER + ".zstd"
DOCKER_FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_FOREIGN_GZIP: Final = DOCKER_FOREIGN + ".gzip"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

_FOREIGN: Final = frozenset(
    {LAYER_FOREIGN, LAYER_FOREIGN + "+gzip", LAYER_FOREIGN + "+zstd", DOCKER_FOREIGN, DOCKER_FOREIGN_GZIP}
)
_LAYERS: Final = frozenset(
    {LAYER, LAYER_GZIP, LAYER_ZSTD, DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD} | _FOREIGN
)


def is_index(media_type: str) -> bool:
    """An OCI index or a docker manifest list."""
    return media_type in {INDEX, DOCKER_LIST}


def is_manifest(media_type: str) -> bool:
    """An OCI or docker v2 manifest."""
    return media_type in {MANIFEST, DOCKER_MANIFEST}


def is_config(media_type: str) -> bool:
    """An OCI or docker image config."""
    return media_type in {CONFIG, DOCKER_CONFIG}


def is_layer(media_type: str) -> bool:
    """A layer that can be unpacked, whatever its compression."""
    return media_type in _LAYERS or media_type.startswith(LAYER + "+")


def is_foreign_layer(media_type: str) -> bool:
    """A layer that registries needn't hold."""
    return media_type in _FOREIGN


class Descriptor:
    """A typed pointer to a blob; a value."""

    __slots__ = ("annotations", "artifact_type", "digest", "media_type", "platform", "size", "urls")

    def __init__(
        self,
        media_type: str,
        digest: digests.Digest,
        size: int,
        *,
        urls: tuple[str, ...] = (),
        annotations: dict[str, str] | None = None,
        platform: Platform | None = None,
        artifact_type: str = "",
    ) -> None:
        self.media_type = media_type
        self.digest = digest
        self.size = size
        self.urls = urls
        self.annotations = annotations or {}
        self.platform = platform
        self.artifact_type = artifact_type

    def __repr__(self) -> str:
        return f"Descriptor({self.media_type}, {self.digest}, {self.size})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Descriptor) and (self.media_type, self.digest, self.size) == (
            other.media_type,
            other.digest,
            other.size,
        )

    def __hash__(self) -> int:
        return hash((self.media_type, self.digest, self.size))

    def to_json(self) -> dict[str, Any]:
        """The document, keys in Go's order, empty fields left out."""
        out: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.urls:
            out["urls"] = list(self.urls)
        if self.annotations:
            out["annotations"] = dict(sorted(self.annotations.items()))
        if self.platform is not None:
            out["platform"] = platform_to_json(self.platform)
        if self.artifact_type:
            out["artifactType"] = self.artifact_type
        return out


class Manifest:
    """One image for one platform. `layers` are base first."""

    __slots__ = ("annotations", "config", "layers", "media_type")

    def __init__(
        self, media_type: str, config: Descriptor, layers: list[Descriptor], annotations: dict[str, str]
    ) -> None:
        self.media_type = media_type
        self.config = config
        self.layers = layers
        self.annotations = annotations


class Index:
    """Manifests (or further indexes), each with the platform it is for."""

    __slots__ = ("annotations", "manifests", "media_type")

    def __init__(self, media_type: str, manifests: list[Descriptor], annotations: dict[str, str]) -> None:
        self.media_type = media_type
        self.manifests = manifests
        self.annotations = annotations


class ImageConfig:
    """What to run and on what. Everything here comes from the image: data, never control."""

    __slots__ = (
        "cmd",
        "created",
        "diff_ids",
        "entrypoint",
        "env",
        "exposed_ports",
        "labels",
        "platform",
        "stop_signal",
        "user",
        "volumes",
        "working_dir",
    )

    def __init__(self, platform: Platform, diff_ids: list[digests.Digest]) -> None:
        self.platform = platform
        self.diff_ids = diff_ids
        self.created = ""
        self.user = ""
        self.working_dir = ""
        self.stop_signal = ""
        self.env: list[str] = []
        self.entrypoint: list[str] = []
        self.cmd: list[str] = []
        self.labels: dict[str, str] = {}
        self.exposed_ports: list[str] = []
        self.volumes: list[str] = []


def parse_manifest(data: bytes, media_type: str = "") -> Manifest:
    """A manifest; a document that could also be read as an index is refused (CVE-2021-41190)."""
    document = load(data, "manifest")
    _require_media_type(document, media_type)
    if "manifests" in document or "fsLayers" in document:
        raise InvalidArgument("invalid manifest: document holds both layers and manifests: invalid argument")
    return Manifest(
        _string(document, "mediaType") or media_type,
        parse_descriptor(_required(document, "config", dict, "manifest"), "manifest config"),
        [parse_descriptor(entry, "manifest layer") for entry in _children(document, "layers", "manifest")],
        _string_map(document, "annotations"),
    )


def parse_index(data: bytes, media_type: str = "") -> Index:
    """An index; a document that could also be read as a manifest is refused (CVE-2021-41190)."""
    document = load(data, "index")
    _require_media_type(document, media_type)
    if "config" in document or "layers" in document or "fsLayers" in document:
        raise InvalidArgument("invalid index: document holds both manifests and layers: invalid argument")
    return Index(
        _string(document, "mediaType") or media_type,
        [parse_descriptor(entry, "index entry") for entry in _children(document, "manifests", "index")],
        _string_map(document, "annotations"),
    )


def parse_config(data: bytes) -> ImageConfig:
    """An image config. Env entries without a name or `=` are refused: they would be looked up on the host."""
    document = load(data, "image config")
    rootfs: dict[str, Any] = _optional(document, "rootfs", dict) or {}
    config = ImageConfig(
        parse_platform(document), [digests.parse(entry) for entry in _strings(rootfs, "diff_ids")]
    )
    config.created = _string(document, "created")
    inner: dict[str, Any] = _optional(document, "config", dict) or {}
    config.user = _string(inner, "User")
    config.working_dir = _string(inner, "WorkingDir")
    config.stop_signal = _string(inner, "StopSignal")
    config.env = _strings(inner, "Env")
    config.entrypoint = _strings(inner, "Entrypoint")
    config.cmd = _strings(inner, "Cmd")
    config.labels = _string_map(inner, "Labels")
    config.exposed_ports = sorted(_optional(inner, "ExposedPorts", dict) or {})
    config.volumes = sorted(_optional(inner, "Volumes", dict) or {})
    for entry in config.env:
        if "=" not in entry[1:] or "\0" in entry:
            raise InvalidArgument(
                f"invalid environment variable {entry[:80]!r} in image config: invalid argument"
            )
    return config


def parse_descriptor(document: object, what: str = "descriptor") -> Descriptor:
    """A descriptor with a checked digest and size."""
    if not isinstance(document, dict):
        raise InvalidArgument(f"invalid {what}: not an object: invalid argument")
    size = document.get("size")
    if type(size) is not int or size < 0 or size >= 1 << 63:
        raise InvalidArgument(f"invalid {what}: bad size: invalid argument")
    try:
        digest = digests.parse(document.get("digest"))
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid {what}: {error}") from error
    platform: dict[str, Any] | None = _optional(document, "platform", dict)
    return Descriptor(
        _string(document, "mediaType"),
        digest,
        size,
        urls=tuple(_strings(document, "urls")),
        annotations=_string_map(document, "annotations"),
        platform=None if platform is None else parse_platform(platform),
        artifact_type=_string(document, "artifactType"),
    )


def parse_platform(document: dict[str, Any]) -> Platform:
    """The platform fields of an index entry or of a config."""
    return Platform(
        _string(document, "os"),
        _string(document, "architecture"),
        _string(document, "variant"),
        _string(document, "os.version"),
        tuple(_strings(document, "os.features")),
    )


def platform_to_json(platform: Platform) -> dict[str, Any]:
    """The document, keys in Go's order, empty fields left out."""
    out: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        out["os.version"] = platform.os_version
    if platform.os_features:
        out["os.features"] = list(platform.os_features)
    if platform.variant:
        out["variant"] = platform.variant
    return out


def load(data: bytes, what: str) -> dict[str, Any]:
    """One strict JSON object: size cap, UTF-8, no duplicate keys, no NaN, nothing after it."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InvalidArgument(f"{what} is larger than {MAX_DOCUMENT_BYTES} bytes: invalid argument")
    try:
        loaded = documents.loads(data, max_bytes=MAX_DOCUMENT_BYTES)
    except documents.DocumentError as error:
        raise InvalidArgument(f"invalid {what}: {error}: invalid argument") from error
    if not isinstance(loaded, dict):
        raise InvalidArgument(f"invalid {what}: not an object: invalid argument")
    return loaded


def _require_media_type(document: dict[str, Any], served: str) -> None:
    """The type a document gives itself must be the one it was fetched as (CVE-2021-41190)."""
    own = _string(document, "mediaType")
    if own and served and own != served:
        raise InvalidArgument(
            f"media type {own} of the document is not {served}, as which it was served: invalid argument"
        )


def _children(document: dict[str, Any], key: str, what: str) -> list[Any]:
    children: list[Any] = _required(document, key, list, what)
    if len(children) > MAX_CHILDREN:
        raise InvalidArgument(f"{what} has more than {MAX_CHILDREN} {key}: invalid argument")
    return children


def _required(document: dict[str, Any], key: str, kind: Callable[..., T], what: str) -> T:
    value = _optional(document, key, kind)
    if value is None:
        raise InvalidArgument(f"invalid {what}: {key} is missing: invalid argument")
    return value


def _optional(document: dict[str, Any], key: str, kind: Callable[..., T]) -> T | None:
    value = document.get(key)
    if value is None or type(value) is kind:
        return value
    raise InvalidArgument(f"invalid image document: {key} has the wrong type: invalid argument")


def _string(document: dict[str, Any], key: str) -> str:
    return _optional(document, key, str) or ""


def _strings(document: dict[str, Any], key: str) -> list[str]:
    values: list[Any] = _optional(document, key, list) or []
    if not all(type(value) is str for value in values):
        raise InvalidArgument(f"invalid image document: {key} has the wrong type: invalid argument")
    return values


def _string_map(document: dict[str, Any], key: str) -> dict[str, str]:
    values: dict[Any, Any] = _optional(document, key, dict) or {}
    if not all(type(value) is str for value in values.values()):
        raise InvalidArgument(f"invalid image document: {key} has the wrong type: invalid argument")
    return values
