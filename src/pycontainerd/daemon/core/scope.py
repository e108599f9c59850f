"""Whose request it is: the containerd namespace and the lease every store call works under."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pycontainerd.lib import identifiers
from pycontainerd.lib.errdefs import ContainerdError, FailedPrecondition


@dataclass(frozen=True, slots=True)
class Scope:
    """A request's namespace, already validated, and the lease that new resources are added to ("" for none)."""

    namespace: str
    lease: str = ""


def require_scope(namespace: str, lease: str = "") -> Scope:
    """The scope of a request; FailedPrecondition when it names no namespace, InvalidArgument for a bad one."""
    if not namespace:
        raise FailedPrecondition(
            "namespace is required: failed precondition",
            hint="send the containerd-namespace header (containerd-namespace-ttrpc over ttrpc)",
        )
    try:
        identifiers.require_valid(namespace)
    except ContainerdError as e:
        raise type(e)(f"namespace validation: {e}") from e
    return Scope(namespace, lease)


def now_nanos() -> int:
    """Wall clock, nanoseconds since 1970 UTC."""
    return time.time_ns()
