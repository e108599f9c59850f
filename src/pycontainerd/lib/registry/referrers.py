"""What refers to an object of a registry: signatures, attestations and whatever else names it as its subject.

Asked for by the referrers API; where a registry hasn't that, by the tag that clients keep in its place.

Spec: distribution-spec spec.md#listing-referrers, #unavailable-referrers-api; containerd core/remotes/docker (referrers)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin

from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import (
    ContainerdError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from pycontainerd.lib.oci import image as oci
from pycontainerd.lib.registry import http
from pycontainerd.lib.registry.repository import Endpoint, Repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.lib.digest import Digest

_PAGES: Final = 100
# What makes the next host worth asking.
_NEXT_HOST: Final = (NotFound, Unavailable, ResourceExhausted, Unauthenticated, PermissionDenied)


class Referrers(Repository):
    """The referrers of one repository's objects. `close` when done."""

    def find(self, digest: Digest, artifact_types: Sequence[str] = ()) -> list[oci.Descriptor]:
        """What refers to an object, in the registry's order; of these types, if any are named. Nothing is no error.

        InvalidArgument for an answer that is no index, and else what the registry said.
        """
        with trace.span("referrers", digest=str(digest)):
            found = self._ask(digest, artifact_types)
        # A registry may leave the filter out, and says so nowhere that can be relied on.
        return [one for one in found if not artifact_types or one.artifact_type in artifact_types]

    def _ask(self, digest: Digest, artifact_types: Sequence[str]) -> list[oci.Descriptor]:
        asked = [one for one in self._endpoints if "referrers" in one.host.capabilities]
        beside = asked or [one for one in self._endpoints if "resolve" in one.host.capabilities]
        filters = "&".join(f"artifactType={quote(kind, safe='')}" for kind in artifact_types)
        path = f"referrers/{digest}{'?' if filters else ''}{filters}"
        failure: ContainerdError | None = None
        for endpoint, where in (
            *((one, path) for one in asked),
            *((one, f"manifests/{str(digest).replace(':', '-', 1)}") for one in beside),
        ):
            try:
                return self._index(endpoint, where)
            except _NEXT_HOST as error:
                if not isinstance(error, NotFound):
                    failure = failure or error
                self._log("no referrers from host", error=error, host=endpoint.host.address)
        if failure is not None:
            raise failure
        return []

    def _index(self, endpoint: Endpoint, path: str) -> list[oci.Descriptor]:
        """An index with all its pages."""
        found: list[oci.Descriptor] = []
        url = self._url(endpoint, path)
        for _ in range(_PAGES):
            data, following = self._page(endpoint, url, path)
            found += oci.parse_index(data, oci.INDEX).manifests
            if len(found) > oci.MAX_CHILDREN:
                break
            if not following:
                return found
            url = urljoin(url, following)
            if http.origin(url) != http.origin(endpoint.host.base):
                raise InvalidArgument(
                    f"{endpoint.host.address} leads to another host for more referrers: {url}"
                )
        raise InvalidArgument(f"{endpoint.host.address} sends referrers without end")

    def _page(self, endpoint: Endpoint, url: str, path: str) -> tuple[bytes, str]:
        """The document, and where the next one is ("" for nowhere)."""
        response = self._request_url(endpoint, "GET", url, {"Accept": oci.INDEX})
        try:
            if response.status == 404:
                raise NotFound(f"{url}: not found")
            if response.status != 200:
                raise self._refusal(endpoint, response, f"GET {path}")
            data = http.read(response, oci.MAX_DOCUMENT_BYTES + 1)
            link = response.headers.get("Link", "")
        finally:
            http.discard(response)
        if len(data) > oci.MAX_DOCUMENT_BYTES:
            raise InvalidArgument(
                f"the referrers of {self.ref} are larger than {oci.MAX_DOCUMENT_BYTES} bytes"
            )
        target, _, parameters = link.partition(";")
        is_next = 'rel="next"' in parameters or "rel=next" in parameters
        return data, target.strip().removeprefix("<").removesuffix(">") if is_next else ""
