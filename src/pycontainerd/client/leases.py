"""Leases: what a client is working on is kept from the garbage collector until it is referred to.

Spec: containerd leases service
"""

from __future__ import annotations

import os
import time

from pycontainerd.lib.api.light import leases_v1
from pycontainerd.lib.errdefs import ContainerdError

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from pycontainerd.client.client import Client, Reply

EXPIRE_LABEL: Final = "containerd.io/gc.expire"
_DAY_S: Final = 24 * 3600
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def create(client: Client, lease_id: str = "", labels: Mapping[str, str] | None = None) -> leases_v1.Lease:
    """A lease; AlreadyExists for an id in use."""
    reply: leases_v1.CreateResponse = client.call(
        leases_v1.LEASES,
        "Create",
        leases_v1.CreateRequest(id=lease_id or random_id(), labels=dict(labels or {})),
    )
    return reply.lease


def delete(client: Client, lease_id: str, *, sync: bool = False) -> None:
    """Ends a lease; `sync` waits for the garbage collection that follows."""
    client.call(leases_v1.LEASES, "Delete", leases_v1.DeleteRequest(id=lease_id, sync=sync))


def walk(client: Client, filters: Sequence[str] = ()) -> list[leases_v1.Lease]:
    """The leases of the namespace."""
    reply: leases_v1.ListResponse = client.call(
        leases_v1.LEASES, "List", leases_v1.ListRequest(filters=list(filters))
    )
    return list(reply.leases)


def random_id() -> str:
    """`<nanoseconds>-<four characters>`, as containerd's client makes them."""
    return f"{time.time_ns() % 1_000_000_000}-{random_suffix()}"


def random_suffix() -> str:
    """Four characters of base64's URL alphabet."""
    return "".join(_ALPHABET[byte & 63] for byte in os.urandom(4))


def expiring(seconds: int = _DAY_S) -> dict[str, str]:
    """The label that ends a lease by itself, should its owner die."""
    return {EXPIRE_LABEL: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))}


class held:  # noqa: N801 - reads as what it is: `with leases.held(client):`
    """Everything the client makes in this block is kept until the block ends; it then lives by its references.

    The lease's end is not waited for (`Client.call_later`). With `reading`, nor is its beginning, for as long as the
    block only reads: it calls `wait` before it makes anything.
    """

    __slots__ = ("_client", "_id", "_reading", "_reply")

    def __init__(self, client: Client, *, reading: bool = False) -> None:
        self._client = client
        self._id = ""
        self._reading = reading
        self._reply: Reply | None = None

    def __enter__(self) -> held:
        if not self._client.lease:
            self._id = random_id()
            request = leases_v1.CreateRequest(id=self._id, labels=expiring())
            self._reply = self._client.start(leases_v1.LEASES, "Create", request)
            if not self._reading:
                self.wait()
        return self

    def wait(self) -> None:
        """The lease is there, and what the client makes from now on is its."""
        reply, self._reply = self._reply, None
        if reply is not None:
            try:
                self._client.wait(reply)
            except BaseException:
                self._id = ""
                raise
            self._client.lease = self._id

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: object) -> None:
        try:
            self.wait()
        except ContainerdError:
            if error is None:
                raise
        if self._id:
            self._client.lease = ""
            self._client.call_later(leases_v1.LEASES, "Delete", leases_v1.DeleteRequest(id=self._id))
