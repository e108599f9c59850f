"""Pushing to a repository: what is there is left, what another repository has is mounted, the rest is uploaded.

    HEAD blobs/D            200: nothing to do
    POST blobs/uploads/     with mount and from where the blob came from this registry: 201 is mounted
    PUT LOCATION?digest=D   the whole blob; where the connection broke: GET LOCATION, PATCH the rest, PUT
    PUT manifests/TAG       documents, children first

Spec: distribution-spec spec.md#push
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import (
    ContainerdError,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from pycontainerd.lib.registry import hosts, http
from pycontainerd.lib.registry.repository import Endpoint, Repository, server_message, too_many

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from urllib3 import BaseHTTPResponse

    from pycontainerd.lib import digest as digests
    from pycontainerd.lib.oci import image as oci

    # Bytes of a blob from an offset on.
    Source = Callable[[int], Iterator[bytes]]

EXISTED, MOUNTED, UPLOADED = "existed", "mounted", "uploaded"
_RESUMES: Final = 5


class Uploader(Repository):
    """One push's view of one repository; its methods may be called from several threads."""

    actions = "pull,push"

    def __init__(self, ref: str, options: hosts.Options, log: Callable[..., None] | None = None) -> None:
        """FailedPrecondition when no host of the registry may be pushed to."""
        super().__init__(ref, options, log)
        able = [endpoint for endpoint in self._endpoints if "push" in endpoint.host.capabilities]
        if not able:
            raise FailedPrecondition(
                f"no push hosts: {self._registry} has none",
                hint="give a host the capability push in hosts.toml",
            )
        self._endpoint: Endpoint = able[0]

    def put_blob(self, descriptor: oci.Descriptor, source: Source, mount_from: str = "") -> str:
        """Brings a blob there: EXISTED, MOUNTED (from the repository `mount_from`) or UPLOADED.

        DataLoss when the registry stored something else; Unauthenticated, PermissionDenied, ResourceExhausted or
        Unavailable when it refuses.
        """
        with trace.span("push blob", digest=descriptor.digest):
            if self._is_there(f"blobs/{descriptor.digest}", descriptor):
                return EXISTED
            location = self._begin(descriptor, mount_from)
            if not location:
                return MOUNTED
            self._upload(descriptor, source, location)
            return UPLOADED

    def put_document(self, descriptor: oci.Descriptor, data: bytes, tag: str = "") -> str:
        """Brings a manifest or an index there, by its digest or under a tag: EXISTED or UPLOADED."""
        path = f"manifests/{tag or descriptor.digest}"
        with trace.span("push document", digest=descriptor.digest):
            if self._is_there(path, descriptor):
                return EXISTED
            response = self._request(
                self._endpoint, "PUT", path, {"Content-Type": descriptor.media_type}, body=data
            )
            with _discarded(response):
                if response.status not in {200, 201, 204}:
                    raise self._failure(response, step="commit")
                _require_digest(response, descriptor.digest)
            return UPLOADED

    def _is_there(self, path: str, descriptor: oci.Descriptor) -> bool:
        response = self._request(self._endpoint, "HEAD", path, {"Accept": f"{descriptor.media_type}, */*"})
        with _discarded(response):
            if response.status == 404:
                return False
            if response.status != 200:
                raise self._failure(response)
            served = response.headers.get("Docker-Content-Digest", "")
        # A tag may be there with other content; a digest's own path needs no header.
        return served == descriptor.digest or (not served and path.endswith(f"/{descriptor.digest}"))

    def _begin(self, descriptor: oci.Descriptor, mount_from: str) -> str:
        """Where to upload to; empty when the blob was mounted."""
        if mount_from and mount_from != self.spec.path:
            from urllib.parse import quote

            query = f"?mount={quote(descriptor.digest)}&from={quote(mount_from, safe='')}"
            scope = f"{self._scope} repository:{mount_from}:pull"
            try:
                response = self._request(
                    self._endpoint, "POST", f"blobs/uploads/{query}", {"Content-Length": "0"}, scope=scope
                )
            except (Unauthenticated, PermissionDenied):
                return self._begin(
                    descriptor, ""
                )  # we may not read there: that is no reason not to push here
            if response.status == 201:
                http.discard(response)
                self._log("cross-repository mount", digest=descriptor.digest, source=mount_from)
                return ""
            if response.status != 202:
                http.discard(response)
                return self._begin(descriptor, "")
        else:
            response = self._request(self._endpoint, "POST", "blobs/uploads/", {"Content-Length": "0"})
        with _discarded(response):
            if response.status != 202:
                raise self._failure(response)
            return self._location(response)

    def _location(self, response: BaseHTTPResponse) -> str:
        location = response.headers.get("Location", "")
        if not location:
            raise Unavailable(f"{self._endpoint.host.base} gave no place to upload to")
        target = http.join(self._url(self._endpoint, "blobs/uploads/"), location)
        if target.startswith("http:") and self._endpoint.host.scheme == "https":
            raise InvalidArgument(f"{self._endpoint.host.base} wants the upload over plain http: refused")
        return target

    def _upload(self, descriptor: oci.Descriptor, source: Source, location: str) -> None:
        offset = 0
        for attempt in range(_RESUMES):
            try:
                if not offset:
                    self._put(location, descriptor, lambda: source(0), descriptor.size)
                else:
                    location = self._patch(location, descriptor, source, offset)
                    self._put(location, descriptor, lambda: iter(()), 0)
            except Unavailable as error:
                if attempt == _RESUMES - 1 or error.step != "transfer":
                    raise
                self._log("upload broke, resuming", digest=descriptor.digest, error=error)
                location, offset = self._where(descriptor, location)
                continue
            return
        raise AssertionError("unreachable")

    def _put(
        self, location: str, descriptor: oci.Descriptor, body: Callable[[], Iterator[bytes]], size: int
    ) -> None:
        from urllib.parse import quote

        url = f"{location}{'&' if '?' in location else '?'}digest={quote(descriptor.digest)}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        response = self._request_url(self._endpoint, "PUT", url, headers, body=body)
        with _discarded(response):
            if response.status not in {201, 204}:
                raise self._failure(response, step="commit")
            _require_digest(response, descriptor.digest)

    def _patch(self, location: str, descriptor: oci.Descriptor, source: Source, offset: int) -> str:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(descriptor.size - offset),
            "Content-Range": f"{offset}-{descriptor.size - 1}",
        }
        if offset == descriptor.size:
            return location
        response = self._request_url(self._endpoint, "PATCH", location, headers, body=lambda: source(offset))
        with _discarded(response):
            if response.status not in {202, 204}:
                raise self._failure(response)
            return self._location(response)

    def _where(self, descriptor: oci.Descriptor, location: str) -> tuple[str, int]:
        """How far a broken upload came; a new one where the registry has forgotten it."""
        response = self._request_url(self._endpoint, "GET", location, {})
        with _discarded(response):
            first, dash, last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")
            known = (
                response.status in {202, 204} and dash and first == "0" and last.isascii() and last.isdigit()
            )
            if known and 0 < int(last[:19]) < descriptor.size:
                return self._location(response), int(last) + 1
        return self._begin(descriptor, ""), 0

    def _failure(self, response: BaseHTTPResponse, *, step: str = "") -> ContainerdError:
        """A refusal in containerd's words; what the registry says about it is a hint. `commit`: of a whole upload."""
        if response.status in {401, 403}:
            return self._refusal(self._endpoint, response, "")
        if response.status == 429:
            return too_many(self._endpoint.host.base, response.headers.get("Retry-After", ""))
        kind = Unavailable if response.status >= 500 else FailedPrecondition
        return kind(
            f"unexpected status: {http.status_words(response)}",
            hint=server_message(response) or f"{self._endpoint.host.base} does not take it",
            step=step,
        )


class _discarded:  # noqa: N801 - reads as what it is: `with _discarded(response):`
    """Gives the connection back when left."""

    def __init__(self, response: BaseHTTPResponse) -> None:
        self._response = response

    def __enter__(self) -> None:
        """Nothing to get ready."""

    def __exit__(self, *exc_info: object) -> None:
        http.discard(self._response)


def _require_digest(response: BaseHTTPResponse, wanted: digests.Digest) -> None:
    served = response.headers.get("Docker-Content-Digest", "")
    if served and served != wanted and served.partition(":")[0] == wanted.algorithm:
        raise DataLoss(
            f"got digest {served}, expected {wanted}",
            hint="the registry stored something else: it is damaged or lies",
        )
