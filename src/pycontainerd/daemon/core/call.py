"""What a service knows about a request besides its message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainerd.daemon.core.scope import Scope, require_scope

if TYPE_CHECKING:
    from collections.abc import Mapping


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
