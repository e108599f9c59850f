"""From a reference to a descriptor, and from a descriptor to its bytes, over a registry's hosts in order.

Every blob is counted and hashed on its way; a body that is longer, shorter or other than its descriptor says is
refused. Names of documents and credentials come from the caller, never from what a registry sent.

Spec: distribution-spec spec.md#pull
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from urllib3.exceptions import HTTPError

from pycontainerd.lib import digest as digests
from pycontainerd.lib import reference, trace
from pycontainerd.lib.errdefs import (
    ContainerdError,
    DataLoss,
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
    from collections.abc import Callable, Iterator

    from urllib3 import BaseHTTPResponse

    from pycontainerd.lib.registry import hosts

ACCEPT: Final = ", ".join((oci.DOCKER_MANIFEST, oci.DOCKER_LIST, oci.MANIFEST, oci.INDEX, "*/*"))
CHUNK: Final = 512 << 10
_RESUMES: Final = 5
# What makes the next host worth asking.
_NEXT_HOST: Final = (Unavailable, ResourceExhausted, Unauthenticated, PermissionDenied)


def _parse_digest(text: str) -> digests.Digest:
    """A reference's digest; what is wrong with it is said in go-digest's words alone."""
    try:
        return digests.parse(text)
    except InvalidArgument as e:
        raise InvalidArgument(
            str(e).removesuffix(": invalid argument"), hint="a digest is sha256: and 64 hex digits"
        ) from e


class Resolver(Repository):
    """One pull's view of one registry. `cancel` may be called from another thread or a signal handler."""

    def __init__(self, ref: str, options: hosts.Options, log: Callable[..., None] | None = None) -> None:
        """InvalidArgument, with containerd's text, for a reference that isn't complete."""
        reference.require_object(reference.parse_spec(ref))
        super().__init__(ref, options, log)

    def resolve(self) -> oci.Descriptor:
        """The descriptor behind the reference; NotFound, Unauthenticated, PermissionDenied or Unavailable."""
        wanted = _parse_digest(self.spec.digest) if self.spec.digest else None
        failure: ContainerdError | None = None
        with trace.span("resolve", ref=self.ref):
            for endpoint in self._endpoints:
                if ("pull" if wanted else "resolve") not in endpoint.host.capabilities:
                    continue
                try:
                    return self._resolve_at(endpoint, wanted)
                except NotFound as error:
                    failure = failure or error
                except _NEXT_HOST as error:
                    failure = error if failure is None or isinstance(failure, NotFound) else failure
                    self._log("trying next host", error=error, host=endpoint.host.address)
        raise failure or NotFound(f"{self.ref}: not found")

    def _resolve_at(self, endpoint: Endpoint, wanted: digests.Digest | None) -> oci.Descriptor:
        paths = [f"manifests/{wanted or self.spec.tag}"]
        if wanted:
            paths.append(f"blobs/{wanted}")
        failure: ContainerdError | None = None
        for path in paths:
            response = self._request(endpoint, "HEAD", path, {"Accept": ACCEPT})
            try:
                if response.status == 404:
                    self._log(
                        "trying next host - response was http.StatusNotFound", host=endpoint.host.address
                    )
                    continue
                if response.status != 200:
                    # A registry may fail over a blob's digest where it looks for a manifest.
                    failure = failure or self._refusal(endpoint, response, f"HEAD {path}")
                    continue
                media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
                length = response.headers.get("Content-Length", "")
                served = response.headers.get("Docker-Content-Digest", "")
            finally:
                http.discard(response)
            if wanted or served:
                digest = wanted or digests.parse(served)
                if length.isascii() and length.isdigit():
                    return oci.Descriptor(media_type, digest, int(length))
            return self._resolve_by_body(endpoint, path, wanted, media_type)
        raise failure or NotFound(f"{self.ref}: not found", hint="are the name and the tag right?")

    def _resolve_by_body(
        self, endpoint: Endpoint, path: str, wanted: digests.Digest | None, media_type: str
    ) -> oci.Descriptor:
        """For a registry that says neither digest nor size: the document itself tells."""
        response = self._request(endpoint, "GET", path, {"Accept": ACCEPT})
        try:
            if response.status != 200:
                raise self._refusal(endpoint, response, f"GET {path}")
            data = http.read(response, oci.MAX_DOCUMENT_BYTES + 1)
        finally:
            http.discard(response)
        if len(data) > oci.MAX_DOCUMENT_BYTES:
            raise InvalidArgument(f"manifest of {self.ref} is larger than {oci.MAX_DOCUMENT_BYTES} bytes")
        digest = digests.of(data)
        if wanted and wanted != digest:
            raise DataLoss(
                f"{endpoint.host.address} sent {digest} for {wanted}", hint="the registry is damaged or lies"
            )
        return oci.Descriptor(media_type, digest, len(data))

    def fetch(self, descriptor: oci.Descriptor, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a blob from `offset` on, resumed where a connection breaks; the whole is counted.

        The caller (the content store) verifies the digest; DataLoss when size or range is wrong.
        """
        done = offset
        for attempt in range(_RESUMES):
            try:
                for chunk in self._fetch_from(descriptor, done):
                    done += len(chunk)
                    if done > descriptor.size:
                        raise DataLoss(
                            f"{descriptor.digest} is longer than the {descriptor.size} bytes it should have"
                        )
                    yield chunk
            except Unavailable:
                if attempt == _RESUMES - 1:
                    raise
                continue
            if done == descriptor.size:
                return
            self._log("connection ended early, resuming", digest=descriptor.digest, offset=done)
        raise DataLoss(
            f"{descriptor.digest} is shorter than the {descriptor.size} bytes it should have: got {done}"
        )

    def _fetch_from(self, descriptor: oci.Descriptor, offset: int) -> Iterator[bytes]:
        if offset == descriptor.size:
            return
        failure: ContainerdError | None = None
        for endpoint in self._endpoints:
            if "pull" not in endpoint.host.capabilities:
                continue
            try:
                response = self._open(endpoint, descriptor, offset)
            except (NotFound, *_NEXT_HOST) as error:
                failure = failure or error
                continue
            try:
                yield from _body(response, offset)
            finally:
                http.discard(response)
            return
        raise failure or NotFound(f"{descriptor.digest}: not found")

    def _open(self, endpoint: Endpoint, descriptor: oci.Descriptor, offset: int) -> BaseHTTPResponse:
        is_document = oci.is_manifest(descriptor.media_type) or oci.is_index(descriptor.media_type)
        path = f"{'manifests' if is_document else 'blobs'}/{descriptor.digest}"
        headers = {"Accept": f"{descriptor.media_type}, */*"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        response = self._request(endpoint, "GET", path, headers)
        if response.status in {200, 206}:
            return response
        try:
            if response.status != 404:
                raise self._refusal(endpoint, response, f"GET {path}")
        finally:
            http.discard(response)
        raise NotFound(f"content at {endpoint.host.base}/{self.spec.path}/{path} not found: not found")


def _body(response: BaseHTTPResponse, offset: int) -> Iterator[bytes]:
    """The body without what the caller has already: a server may answer a range with the whole."""
    skip = 0
    if offset and response.status == 200:
        skip = offset
    elif offset:
        start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        if start != str(offset):
            raise DataLoss(f"asked for bytes from {offset}, got from {start or 'nowhere'}")
    try:
        while chunk := response.read(CHUNK):
            if skip >= len(chunk):
                skip -= len(chunk)
                continue
            yield chunk[skip:]
            skip = 0
    except (HTTPError, OSError) as error:
        raise Unavailable(f"connection broke: {error}", step="transfer") from error
