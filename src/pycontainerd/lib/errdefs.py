"""The one error vocabulary between layers, and its gRPC and ttrpc codes.

    ContainerdError
    ├── Canceled            1      ├── Aborted             10
    ├── Unknown             2      ├── OutOfRange          11
    ├── InvalidArgument     3      ├── Unimplemented       12
    ├── DeadlineExceeded    4      ├── Internal            13
    ├── NotFound            5      ├── Unavailable         14
    ├── AlreadyExists       6      ├── DataLoss            15
    ├── PermissionDenied    7      └── Unauthenticated     16
    ├── ResourceExhausted   8
    └── FailedPrecondition  9
        ├── Conflict
        └── NotModified

Spec: containerd errdefs (errgrpc), google.rpc.Code
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import ClassVar


class ContainerdError(Exception):
    """An error with a place in containerd's vocabulary.

    `str(error)` is the whole message: what failed on what, lower case. `hint` is what a person can try next and is
    never part of the wire message. `step`, `call` and `errno` say where it happened, when that is known.
    """

    code: ClassVar[int] = 2
    reason: ClassVar[str] = "unknown"

    def __init__(
        self, message: str = "", *, hint: str = "", step: str = "", call: str = "", errno: int = 0
    ) -> None:
        super().__init__(message or self.reason)
        self.hint = hint
        self.step = step
        self.call = call
        self.errno = errno


class Canceled(ContainerdError):
    code = 1
    reason = "context canceled"


class Unknown(ContainerdError):
    code = 2
    reason = "unknown"


class InvalidArgument(ContainerdError):
    code = 3
    reason = "invalid argument"


class DeadlineExceeded(ContainerdError):
    code = 4
    reason = "context deadline exceeded"


class NotFound(ContainerdError):
    code = 5
    reason = "not found"


class AlreadyExists(ContainerdError):
    code = 6
    reason = "already exists"


class PermissionDenied(ContainerdError):
    code = 7
    reason = "permission denied"


class ResourceExhausted(ContainerdError):
    code = 8
    reason = "resource exhausted"


class FailedPrecondition(ContainerdError):
    code = 9
    reason = "failed precondition"


class Conflict(FailedPrecondition):
    reason = "conflict"


class NotModified(FailedPrecondition):
    reason = "not modified"


class Aborted(ContainerdError):
    code = 10
    reason = "aborted"


class OutOfRange(ContainerdError):
    code = 11
    reason = "out of range"


class Unimplemented(ContainerdError):
    code = 12
    reason = "not implemented"


class Internal(ContainerdError):
    code = 13
    reason = "internal"


class Unavailable(ContainerdError):
    code = 14
    reason = "unavailable"


class DataLoss(ContainerdError):
    code = 15
    reason = "data loss"


class Unauthenticated(ContainerdError):
    code = 16
    reason = "unauthenticated"


BY_CODE: dict[int, type[ContainerdError]] = {
    cls.code: cls
    for cls in (
        Canceled,
        Unknown,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        Unimplemented,
        Internal,
        Unavailable,
        DataLoss,
        Unauthenticated,
    )
}

# Names of the codes, by number, as Go prints them.
CODE_NAMES: tuple[str, ...] = ("OK", *(BY_CODE[code].__name__ for code in sorted(BY_CODE)))


def from_status(code: int, message: str) -> ContainerdError:
    """The typed error for a gRPC or ttrpc status; an unknown code becomes Unknown."""
    if code == FailedPrecondition.code:
        for cls in (Conflict, NotModified):
            if message == cls.reason or message.endswith(": " + cls.reason):
                return cls(message)
    return BY_CODE.get(code, Unknown)(message)


def to_status(error: BaseException) -> tuple[int, str]:
    """The wire code and message of an error; anything outside the vocabulary is Unknown with its own text."""
    if isinstance(error, ContainerdError):
        return error.code, str(error)
    return Unknown.code, str(error) or type(error).__name__
