"""Content digests, checked once when they are parsed and trusted afterwards.

`Digest` is a str whose only way in is a check, so a digest can be a path component, a label value or a header
without another look.

Spec: image-spec descriptor.md#digests
"""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

# algorithm -> hex digits
ENCODED_LENGTH: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_SMALL: Final = 64 << 10
_HEX: Final = frozenset("0123456789abcdef")
_LOWER: Final = frozenset("0123456789abcdefghijklmnopqrstuvwxyz")
_ENCODED: Final = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ=_-")


class Digest(str):
    """`algorithm:hex`. Construct with `parse`, `of` or `from_hash`; never directly."""

    __slots__ = ()

    @property
    def algorithm(self) -> str:
        """The part before the colon, one of ENCODED_LENGTH."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The lower-case hex digits."""
        return self.partition(":")[2]


def parse(value: object) -> Digest:
    """The digest in `value`; InvalidArgument, with go-digest's text, for everything else (None, numbers, paths ...)."""
    if isinstance(value, Digest):
        return value
    if not isinstance(value, str):
        raise InvalidArgument("invalid checksum digest format: invalid argument")
    algorithm, colon, encoded = value.partition(":")
    if not colon or not algorithm or not encoded or len(value) > 256:
        raise InvalidArgument("invalid checksum digest format: invalid argument")
    if algorithm not in ENCODED_LENGTH:
        known_form = _is_algorithm(algorithm) and _ENCODED.issuperset(encoded)
        problem = "unsupported digest algorithm" if known_form else "invalid checksum digest format"
        raise InvalidArgument(f"{problem}: invalid argument")
    if len(encoded) != ENCODED_LENGTH[algorithm]:
        raise InvalidArgument("invalid checksum digest length: invalid argument")
    if not _HEX.issuperset(encoded):
        raise InvalidArgument("invalid checksum digest format: invalid argument")
    return Digest(value)


def _is_algorithm(name: str) -> bool:
    """Whether it could be one: lower-case words joined by single separators."""
    for separator in ".+_":
        name = name.replace(separator, "-")
    return all(word and _LOWER.issuperset(word) for word in name.split("-"))


def is_valid(value: object) -> bool:
    """Whether `parse` would accept the value."""
    try:
        parse(value)
    except InvalidArgument:
        return False
    return True


def of(data: bytes) -> Digest:
    """The sha256 digest of bytes in memory."""
    if len(data) > _SMALL:
        return from_hash(new_hash(data))
    from pycontainerd.lib.sha256 import hexdigest

    return Digest(f"sha256:{hexdigest(data)}")


def of_chunks(chunks: Iterable[bytes]) -> Digest:
    """The sha256 digest of a stream."""
    state = new_hash()
    for chunk in chunks:
        state.update(chunk)
    return from_hash(state)


def new_hash(data: bytes = b"", algorithm: str = "sha256") -> Any:
    """A hashlib object of one of the known algorithms."""
    import hashlib

    if algorithm not in ENCODED_LENGTH:
        raise InvalidArgument("unsupported digest algorithm: invalid argument")
    return hashlib.new(algorithm, data, usedforsecurity=False)


def from_hash(state: Any) -> Digest:
    """The digest of what a hashlib object has seen so far."""
    return Digest(f"{state.name}:{state.hexdigest()}")


def chain_id(diff_ids: Iterable[Digest]) -> Digest:
    """The chain id of a whole stack of layers, base first. Spec: image-spec config.md#layer-chainid."""
    chain = chain_ids(diff_ids)
    if not chain:
        raise InvalidArgument("a chain id needs at least one layer: invalid argument")
    return chain[-1]


def chain_ids(diff_ids: Iterable[Digest]) -> list[Digest]:
    """The chain id up to and including each layer, base first."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain
