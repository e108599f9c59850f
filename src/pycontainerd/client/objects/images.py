"""Images: pulled from registries, looked up and removed."""

from __future__ import annotations

import contextlib

from pycontainerd.client import images, leases, snapshots, unpack
from pycontainerd.lib import errdefs, platforms, reference

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pycontainerd.client.client import Client
    from pycontainerd.client.pull import Fetcher
    from pycontainerd.lib.api.light import images_v1
    from pycontainerd.lib.oci.image import Descriptor


class Image:
    """A name of the namespace, and what it points at."""

    def __init__(self, client: Client, record: images_v1.Image) -> None:
        self._client = client
        self._record = record
        self.target: Descriptor = images.from_wire(record.target)

    def __repr__(self) -> str:
        return f"Image({self.name!r})"

    @property
    def name(self) -> str:
        """Its full name."""
        return self._record.name

    @property
    def digest(self) -> str:
        """The digest of its index or manifest."""
        return str(self.target.digest)

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self._record.labels)

    def size(self) -> int:
        """Bytes of everything that belongs to it for this machine's platform."""
        return images.size_of(self._client, self.target, platforms.default_matcher())[0]

    def remove(self) -> None:
        """Removes the name; what nothing else refers to goes with the next garbage collection."""
        images.delete(self._client, self.name)


class PullProgress:
    """How far a pull is. Totals grow while documents are read: what an image holds is only known then."""

    __slots__ = ("blobs", "blobs_done", "bytes_done", "bytes_total")

    def __init__(self, blobs: int, blobs_done: int, bytes_done: int, bytes_total: int) -> None:
        self.blobs = blobs
        self.blobs_done = blobs_done
        self.bytes_done = bytes_done
        self.bytes_total = bytes_total

    def __str__(self) -> str:
        return f"{self.blobs_done}/{self.blobs} blobs, {self.bytes_done}/{self.bytes_total} bytes"


class Images:
    """The images of the namespace."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, *filters: str) -> list[Image]:
        """All of them, by name, or those that any of the filters holds for (`name~=busybox`)."""
        return [Image(self._client, record) for record in images.walk(self._client, filters)]

    def get(self, name: str) -> Image:
        """One by its name as it is, or by what docker understands by it (`busybox`); NotFound."""
        try:
            return Image(self._client, images.get(self._client, name))
        except errdefs.NotFound:
            with contextlib.suppress(errdefs.InvalidArgument):
                if (full := full_name(name)) != name:
                    return Image(self._client, images.get(self._client, full))
            raise

    def pull(
        self,
        name: str,
        *,
        platform: str = "",
        snapshotter: str = snapshots.DEFAULT,
        username: str = "",
        password: str = "",
        plain_http: bool = False,
        hosts_dir: str = "",
        labels: Mapping[str, str] | None = None,
        progress: Callable[[PullProgress], object] | None = None,
    ) -> Image:
        """Fetches an image, names it and unpacks it, for this machine's platform or another (`linux/arm64`).

        `progress` is called about ten times a second. Without a password docker's configuration is asked for one.
        Raises NotFound, Unauthenticated, PermissionDenied or Unavailable for what the registry said.
        """
        from pycontainerd.client import pull
        from pycontainerd.client.unpack_along import UnpackAlong
        from pycontainerd.lib.registry.hosts import Options
        from pycontainerd.lib.registry.resolver import Resolver

        ref = full_name(name)
        matcher = platforms.only(platforms.parse(platform)) if platform else platforms.default_matcher()
        options = Options(plain_http=plain_http, hosts_dir=hosts_dir, username=username, secret=password)
        with contextlib.closing(Resolver(ref, options)) as resolver, leases.held(self._client):
            target = resolver.resolve()
            fetcher = pull.Fetcher(self._client, resolver, [matcher])

            def tick() -> None:
                if progress is not None:
                    progress(_progress_of(fetcher))

            with UnpackAlong(self._client, fetcher, target, snapshotter, matcher):
                fetcher.run(target, tick)
            record = images.create_or_update(self._client, ref, target, labels)
            unpack.unpack(self._client, target, snapshotter, matcher)
        return Image(self._client, record)

    def referrers(
        self,
        name: str,
        *artifact_types: str,
        username: str = "",
        password: str = "",
        plain_http: bool = False,
        hosts_dir: str = "",
    ) -> tuple[Descriptor, ...]:
        """What the registry has that refers to an image: signatures, attestations and the like, of these types if any.

        With a digest in its name (`busybox@sha256:...`) what refers to that. Raises as `pull` does.
        """
        from pycontainerd.lib.registry.hosts import Options
        from pycontainerd.lib.registry.referrers import Referrers
        from pycontainerd.lib.registry.resolver import Resolver

        ref = full_name(name)
        options = Options(plain_http=plain_http, hosts_dir=hosts_dir, username=username, secret=password)
        with contextlib.closing(Resolver(ref, options)) as resolver:
            subject = resolver.resolve()
        with contextlib.closing(Referrers(ref, options)) as repository:
            return tuple(repository.find(subject.digest, artifact_types))


def full_name(name: str) -> str:
    """`busybox` -> `docker.io/library/busybox:latest`; InvalidArgument for what is no reference."""
    return str(reference.normalize_tagged(name))


def _progress_of(fetcher: Fetcher) -> PullProgress:
    from pycontainerd.client import pull

    entries: Any = list(fetcher.progress.values())
    done = [entry for entry in entries if entry.status in (pull.DONE, pull.EXISTS)]
    return PullProgress(
        len(entries),
        len(done),
        sum(entry.descriptor.size if entry in done else entry.offset for entry in entries),
        sum(entry.descriptor.size for entry in entries),
    )
