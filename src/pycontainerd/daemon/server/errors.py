"""The one translator of this edge: every exception becomes a status, and only real surprises are logged."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from pycontainerd.lib import errdefs

if TYPE_CHECKING:
    from pycontainerd.lib.log import Logger


def to_status(error: BaseException, method: str, log: Logger) -> tuple[int, str]:
    """gRPC code and message. An error outside the vocabulary is Unknown, and its traceback is logged."""
    if not isinstance(error, errdefs.ContainerdError):
        stack = "".join(traceback.format_exception(error))
        log.error("unexpected error", method=method, error=f"{type(error).__name__}: {error}", stack=stack)
    elif error.hint:
        log.debug("request failed", method=method, error=str(error), hint=error.hint)
    return errdefs.to_status(error)
