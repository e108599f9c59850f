"""The walking differ: layers applied and made by a worker process, never by a thread of the daemon.

An overlay mount is applied to its upper directory without mounting it; a bind mount to its source. A layer whose
descriptor asks for it (FOLLOW) is applied while its blob is still being written; it counts once that is verified.

Spec: containerd diff/v1 (plugin io.containerd.differ.v1.walking), image-spec layer.md
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core.content import Following
from pycontainerd.daemon.core.images import Descriptor
from pycontainerd.daemon.plugins.layer_workers import (
    PROGRAM,
    LayerWorkers,
    checked,
    environment,
    parse_answer,
)
from pycontainerd.lib import errdefs, launcher, trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pycontainerd.daemon.core.content import ContentStore
    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.core.snapshots import Mount
    from pycontainerd.daemon.core.typed import TypedValue

LAYER_TAR: Final = "application/vnd.oci.image.layer.v1.tar"
COMPRESSION: Final = {
    LAYER_TAR: "",
    "application/vnd.docker.image.rootfs.diff.tar": "",
    LAYER_TAR + "+gzip": "--gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "--gzip",
    LAYER_TAR + "+zstd": "--zstd",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "--zstd",
}
APPLICABLE: Final = {
    *COMPRESSION,
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
}
FOLLOW: Final = "io.pycontainerd.diff.follow"  # annotation of a descriptor: don't wait for the blob's commit
_COPY_SIZE: Final = 1 << 20
_DIR: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class WalkingDiffer:
    """Implements core.diff.Differ on the layer worker. Blocking; raises errdefs."""

    def __init__(self, content: ContentStore, *, max_unpacked_bytes: int = 0) -> None:
        self._content = content
        self._workers = LayerWorkers()
        self._max_unpacked = max_unpacked_bytes

    def apply(
        self,
        scope: Scope,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        payloads: Mapping[str, TypedValue],
        *,
        sync_fs: bool = False,
    ) -> Descriptor:
        """Unpacks a layer onto the mounts. `payloads` are for stream processors, of which there are none."""
        if descriptor.media_type not in APPLICABLE:
            raise errdefs.Unknown(
                f"failed to get stream processor for {descriptor.media_type}: no processor for media-type"
            )
        with ExitStack() as stack, trace.span("diff.apply", digest=descriptor.digest):
            with _step("failed to get reader from content store"):
                source = self._follow(scope, descriptor) or self._content.open_blob(scope, descriptor.digest)
            stack.callback(source.close)
            args, fds = _target(mounts, stack)
            if self._max_unpacked:
                args += ["--limit", str(self._max_unpacked)]
            blob = source if isinstance(source, Following) else source.fileno()
            answer = self._workers.apply(args, fds, blob, zstd=descriptor.media_type.endswith("zstd"))
            if sync_fs:
                _sync(fds[0])
        return Descriptor(LAYER_TAR, str(answer["diff_id"]), int(answer["size"]))

    def close(self) -> None:
        """Ends what is kept ready for the next layer."""
        self._workers.close()

    def _follow(self, scope: Scope, descriptor: Descriptor) -> Following | None:
        wanted = descriptor.annotations.get(FOLLOW)
        return self._content.follow(scope, descriptor.digest) if wanted else None

    def diff(
        self,
        scope: Scope,
        left: Sequence[Mount],
        right: Sequence[Mount],
        media_type: str,
        ref: str,
        labels: Mapping[str, str],
        *,
        latest_nanos: int | None = None,
    ) -> Descriptor:
        """Writes what changed from left to right into the content store as a layer."""
        media_type = media_type or LAYER_TAR + "+gzip"
        if media_type not in COMPRESSION:
            raise errdefs.Unimplemented(f"unsupported diff media type: {media_type}: not implemented")
        ref = ref or "uniquelayer-" + os.urandom(8).hex()
        with _step("failed to open writer"):
            opened = self._content.writer(scope, ref)
        with opened as writer:
            writer.truncate()
            request = {"left": _plain(left), "right": _plain(right), "latest_nanos": latest_nanos}
            line = json.dumps(request).encode() + b"\n"
            args = ["diff", COMPRESSION[media_type], "--idmap" if _maps_ids(*left, *right) else ""]
            answer = _stream_worker(args, line, writer)
            digest = writer.digest()
            size = writer.status().offset_bytes
            all_labels = dict(labels)
            if COMPRESSION[media_type]:
                all_labels["containerd.io/uncompressed"] = str(answer["diff_id"])
            with suppress(errdefs.AlreadyExists):  # the same change made the same layer before
                writer.commit(size, digest, all_labels)
        return Descriptor(media_type, digest, size)


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Says in an error what was being done."""
    try:
        yield
    except errdefs.ContainerdError as e:
        raise type(e)(f"{name}: {e}", hint=e.hint) from e


def _maps_ids(*mounts: Mount) -> bool:
    return any(option.startswith(("uidmap=", "gidmap=")) for mount in mounts for option in mount.options)


def _plain(mounts: Sequence[Mount]) -> list[dict[str, object]]:
    return [{"type": m.type, "source": m.source, "options": list(m.options)} for m in mounts]


def _target(mounts: Sequence[Mount], stack: ExitStack) -> tuple[list[str], list[int]]:
    """The worker's options and fds (target first) for a snapshot's mounts; the stack closes the fds."""
    if len(mounts) != 1 or mounts[0].type not in ("overlay", "bind"):
        kinds = ", ".join(m.type for m in mounts) or "nothing"
        raise errdefs.Unimplemented(f"apply: mounts of {kinds} are not supported: not implemented")
    mount = mounts[0]

    def opened(path: str) -> int:
        try:
            fd = os.open(path, _DIR)
        except FileNotFoundError as error:
            raise errdefs.NotFound(f"apply: snapshot directory {path} is gone: not found") from error
        stack.callback(os.close, fd)
        return fd

    if mount.type == "bind":
        if "ro" in mount.options:
            raise errdefs.FailedPrecondition(
                f"apply: {mount.source} is a read-only view: failed precondition"
            )
        fd = opened(mount.source)
        return [], [fd]
    options = dict(option.partition("=")[::2] for option in mount.options)
    if "upperdir" not in options:
        raise errdefs.FailedPrecondition("apply: the overlay is a read-only view: failed precondition")
    target = opened(options["upperdir"])
    lower = [opened(path) for path in options.get("lowerdir", "").split(":") if path]
    return ["--overlay", *(["--userxattr"] if "userxattr" in options else [])], [target, *lower]


def _stream_worker(args: list[str], request: bytes, writer: Any) -> dict[str, Any]:
    """Runs a worker whose product comes through a pipe and goes to the writer."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    try:
        child = subprocess.Popen(
            [
                *launcher.interpreter_argv(PROGRAM),
                *filter(None, args),
                "--target",
                str(write_fd),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[write_fd],
            env=environment(),
        )
    except BaseException:
        os.close(read_fd)
        raise
    finally:
        os.close(write_fd)
    results: list[bytes] = []
    talk = threading.Thread(target=lambda: results.extend(child.communicate(request)))
    talk.start()
    try:
        while data := os.read(read_fd, _COPY_SIZE):
            writer.write(data)
    except BaseException:
        child.kill()
        raise
    finally:
        os.close(read_fd)
        talk.join()
    return checked(parse_answer(results[0], child.returncode, results[1]))


def _sync(fd: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        error = ctypes.get_errno()
        raise errdefs.Unknown(f"failed to sync the snapshot's file system: {os.strerror(error)}")
