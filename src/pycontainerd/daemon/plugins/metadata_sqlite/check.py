"""The metadata against the disk, while no daemon runs: what disagrees, and what can be mended.

    the file        is it a sound database, do its rows refer to each other
    blobs           each row's file is there, as long as it says, and (verify) has its digest; each file has a row
    ingests         each folder has a row
    snapshots       each row has a node of its backend, each node its directory and its parent; each directory a node
    images          the target's blob is there
    containers      the snapshot is there
    leases          what they hold is there
    activations     what each has mounted is mounted; each folder of mounts has a row

Mending removes rows of what is gone or damaged, so that clients bring it again, and files that nothing refers to. It
never removes an image or a container: those are a person's to decide about.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pycontainerd.daemon.core import files
from pycontainerd.daemon.plugins.metadata_sqlite.activations import read_active
from pycontainerd.daemon.plugins.mount_manager import attach
from pycontainerd.lib import digest as digests
from pycontainerd.lib import mounts as lib_mounts
from pycontainerd.lib.errdefs import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_CHUNK = 1 << 20


class Problem(NamedTuple):
    """One disagreement. `mend` is None for what only a person can decide; it runs inside one write."""

    text: str
    mend: Callable[[], object] | None = None


class Checker:
    """Checks one root.

    `snapshotters` names those whose directories are here, with their folders; `targets` is the folder of the mounts of
    activations, "" where it may be another daemon's.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        content_root: str,
        snapshotters: Mapping[str, str],
        targets: str,
        *,
        verify: bool = False,
    ) -> None:
        self._connection = connection
        self._targets = targets
        self._content = content_root
        self._snapshotters = snapshotters
        self._verify = verify

    def problems(self) -> Iterator[Problem]:
        """Everything, in an order in which it can be mended: later checks see what mending earlier ones leaves."""
        yield from self._blobs()
        yield from self._stray_content()
        yield from self._nodes()
        yield from self._snapshot_rows()
        yield from self._stray_directories()
        yield from self._leases()
        yield from self._images()
        yield from self._containers()
        yield from self._activations()
        yield from self._stray_mounts()

    def _rows(self, sql: str, *parameters: object) -> list[tuple[str, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    def _delete(self, table: str, **where: object) -> Callable[[], object]:
        condition = " AND ".join(f"{column}=?" for column in where)
        sql = f"DELETE FROM {table} WHERE {condition}"  # noqa: S608 -- names of this file's own
        return lambda: self._connection.execute(sql, tuple(where.values()))

    def _blobs(self) -> Iterator[Problem]:
        for digest, size, spaces in self._rows(
            "SELECT digest, max(size), group_concat(DISTINCT namespace) FROM blobs GROUP BY digest ORDER BY digest"
        ):
            reason = self._why_unusable(digest, int(size))
            if not reason:
                continue

            def mend(digest: str = digest) -> None:
                self._connection.execute("DELETE FROM blobs WHERE digest=?", (digest,))
                if os.path.exists(path := self._blob_path(digest)):
                    os.unlink(path)

            yield Problem(f"content {digest} of {spaces}: {reason}", mend)

    def _why_unusable(self, digest: str, size: int) -> str:
        try:
            path = self._blob_path(digest)
            actual = os.stat(path).st_size
        except InvalidArgument:
            return "no digest"
        except FileNotFoundError:
            return "its file is missing"
        if actual != size:
            return f"its file has {actual} bytes, not {size}"
        if self._verify and _file_digest(path, digest) != digest:
            return "its file's bytes have another digest"
        return ""

    def _blob_path(self, digest: str) -> str:
        parsed = digests.parse(digest)
        return f"{self._content}/blobs/{parsed.algorithm}/{parsed.encoded}"

    def _stray_content(self) -> Iterator[Problem]:
        known = {row[0] for row in self._rows("SELECT digest FROM blobs")}
        known |= {row[0] for row in self._rows("SELECT expected FROM ingests")}
        for algorithm in _names(f"{self._content}/blobs"):
            for encoded in _names(f"{self._content}/blobs/{algorithm}"):
                if f"{algorithm}:{encoded}" not in known:
                    path = f"{self._content}/blobs/{algorithm}/{encoded}"
                    yield Problem(f"{path}: no namespace has this content", _remover(path))
        refs = {
            hashlib.sha256(row[0].encode()).hexdigest()
            for row in self._rows("SELECT backend_ref FROM ingests")
        }
        for name in _names(f"{self._content}/ingest"):
            if name not in refs:
                path = f"{self._content}/ingest/{name}"
                yield Problem(f"{path}: no ingest is known by this folder", _remover(path))

    def _nodes(self) -> Iterator[Problem]:
        """Nodes whose directory or parent is gone; a broken parent breaks all above it."""
        for snapshotter, folder in self._snapshotters.items():
            rows = self._rows(
                "SELECT key, id, parent FROM snapshot_nodes WHERE snapshotter=? ORDER BY id", snapshotter
            )
            broken = {key for key, id, _ in rows if not os.path.isdir(f"{folder}/snapshots/{id}")}
            reasons = dict.fromkeys(broken, "its directory is missing")
            present = {key for key, _, _ in rows}
            for key, _, parent in rows:
                if parent and parent not in present:
                    broken.add(key)
                    reasons.setdefault(key, f"its parent {parent} is missing")
            grew = True
            while grew:
                above = {key for key, _, parent in rows if parent in broken} - broken
                grew = bool(above)
                broken |= above
                reasons.update(dict.fromkeys(above, "a snapshot below it is broken"))
            for key in sorted(broken):
                yield Problem(
                    f"{snapshotter} snapshot {key}: {reasons[key]}",
                    self._delete("snapshot_nodes", snapshotter=snapshotter, key=key),
                )

    def _snapshot_rows(self) -> Iterator[Problem]:
        for namespace, snapshotter, key, backend_key in self._rows(
            "SELECT namespace, snapshotter, key, backend_key FROM snapshots ORDER BY 1, 2, 3"
        ):
            if snapshotter in self._snapshotters and not self._rows(
                "SELECT 1 FROM snapshot_nodes WHERE snapshotter=? AND key=?", snapshotter, backend_key
            ):
                yield Problem(
                    f"snapshot {key} of {namespace}: {snapshotter} does not have it",
                    self._delete("snapshots", namespace=namespace, snapshotter=snapshotter, key=key),
                )

    def _stray_directories(self) -> Iterator[Problem]:
        for snapshotter, folder in self._snapshotters.items():
            nodes = {
                str(row[0])
                for row in self._rows("SELECT id FROM snapshot_nodes WHERE snapshotter=?", snapshotter)
            }
            for name in _names(f"{folder}/snapshots"):
                if name not in nodes:
                    path = f"{folder}/snapshots/{name}"
                    yield Problem(f"{path}: no snapshot is known by this directory", _remover(path))
            for key, id in self._rows(
                "SELECT n.key, n.id FROM snapshot_nodes n LEFT JOIN snapshots s ON s.snapshotter=n.snapshotter "
                "AND s.backend_key=n.key WHERE n.snapshotter=? AND s.key IS NULL ORDER BY n.id DESC",
                snapshotter,
            ):
                node = self._delete("snapshot_nodes", snapshotter=snapshotter, key=key)
                directory = _remover(f"{folder}/snapshots/{id}")
                yield Problem(
                    f"{snapshotter} snapshot {key}: no namespace has it", partial(_both, node, directory)
                )

    def _leases(self) -> Iterator[Problem]:
        for namespace, lease, kind, id in self._rows(
            "SELECT namespace, lease, type, id FROM lease_resources ORDER BY 1, 2, 3, 4"
        ):
            if not self._is_there(namespace, kind, id):
                yield Problem(
                    f"lease {lease} of {namespace}: {kind} {id} is gone",
                    self._delete("lease_resources", namespace=namespace, lease=lease, type=kind, id=id),
                )

    def _is_there(self, namespace: str, kind: str, id: str) -> bool:
        if kind == "content":
            return bool(self._rows("SELECT 1 FROM blobs WHERE namespace=? AND digest=?", namespace, id))
        if kind == "ingests":
            return bool(self._rows("SELECT 1 FROM ingests WHERE namespace=? AND ref=?", namespace, id))
        if kind == "images":
            return bool(self._rows("SELECT 1 FROM images WHERE namespace=? AND name=?", namespace, id))
        snapshotter = kind.removeprefix("snapshots/")
        return bool(
            self._rows(
                "SELECT 1 FROM snapshots WHERE namespace=? AND snapshotter=? AND key=?",
                namespace,
                snapshotter,
                id,
            )
        )

    def _images(self) -> Iterator[Problem]:
        for namespace, name, digest in self._rows(
            "SELECT i.namespace, i.name, i.digest FROM images i LEFT JOIN blobs b ON b.namespace=i.namespace "
            "AND b.digest=i.digest WHERE b.digest IS NULL ORDER BY 1, 2"
        ):
            yield Problem(f"image {name} of {namespace}: its content {digest} is not here: pull it again")

    def _containers(self) -> Iterator[Problem]:
        for namespace, id, snapshotter, key in self._rows(
            "SELECT c.namespace, c.id, c.snapshotter, c.snapshot_key FROM containers c LEFT JOIN snapshots s "
            "ON s.namespace=c.namespace AND s.snapshotter=c.snapshotter AND s.key=c.snapshot_key "
            "WHERE c.snapshot_key<>'' AND s.key IS NULL ORDER BY 1, 2"
        ):
            yield Problem(
                f"container {id} of {namespace}: its {snapshotter} snapshot {key} is not here: "
                "delete the container and make it again"
            )

    def _activations(self) -> Iterator[Problem]:
        """As a daemon forgets them when it starts: after a restart of the machine none is mounted."""
        mounted = frozenset(lib_mounts.mount_points())
        for namespace, name, active in self._rows(
            "SELECT namespace, name, active FROM activations ORDER BY 1, 2"
        ):
            if active is None:
                reason = "was not mounted whole"
            elif not attach.are_there(read_active(active), mounted):
                reason = "is not mounted any more"
            else:
                continue
            yield Problem(
                f"activation {name} of {namespace} {reason}",
                self._delete("activations", namespace=namespace, name=name),
            )

    def _stray_mounts(self) -> Iterator[Problem]:
        known = {str(row[0]) for row in self._rows("SELECT number FROM activations")}
        for name in _names(self._targets) if self._targets else ():
            if name.isascii() and name.isdecimal() and name not in known:
                path = f"{self._targets}/{name}"
                yield Problem(f"{path}: no activation has these mounts", partial(attach.remove_all, path))


def integrity(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with the database itself; nothing when it is sound."""
    try:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(20)") if row[0] != "ok"]
        found += [
            f"a row of {table} refers to a {parent} that is not there"
            for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check")
        ]
    except sqlite3.DatabaseError as e:
        return [str(e)]
    return found


def _file_digest(path: str, digest: str) -> str:
    state = hashlib.new(digest.partition(":")[0])
    with open(path, "rb") as f:
        while chunk := f.read(_CHUNK):
            state.update(chunk)
    return f"{digest.partition(':')[0]}:{state.hexdigest()}"


def _remover(path: str) -> Callable[[], object]:
    def remove() -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            files.remove_tree(path)
        else:
            os.unlink(path)

    return remove


def _both(first: Callable[[], object], second: Callable[[], object]) -> None:
    first()
    second()


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
