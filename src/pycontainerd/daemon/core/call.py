"""What a service knows about a request besides its message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from pycontainerd.daemon.core.scope import Scope, require_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

F = TypeVar("F")
_DECODER: Final = "decode"


class Call:
    """Made by the server from headers or metadata; keys are lower case."""

    __slots__ = ("_scope", "lease", "metadata", "namespace")

    def __init__(self, metadata: Mapping[str, str], namespace: str, lease: str) -> None:
        self.metadata = metadata
        self.namespace = namespace
        self.lease = lease
        self._scope: Scope | None = None

    @property
    def scope(self) -> Scope:
        """FailedPrecondition when the request names no namespace; services that need none never ask."""
        if self._scope is None:
            self._scope = require_scope(self.namespace, self.lease)
        return self._scope


def decoded_by(decode: Callable[[bytes], Any]) -> Callable[[F], F]:
    """Marks a handler whose requests are made of their bytes by `decode`, as their message's class would: DecodeError."""

    def mark(handler: F) -> F:
        setattr(handler, _DECODER, decode)
        return handler

    return mark


def decoder_of(handler: object) -> Callable[[bytes], Any] | None:
    """What `decoded_by` has said of a handler."""
    decode: Callable[[bytes], Any] | None = getattr(handler, _DECODER, None)
    return decode
