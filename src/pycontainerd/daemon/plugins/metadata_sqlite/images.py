"""Image records in SQLite."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pycontainerd.daemon.core import filters, gc, images
from pycontainerd.daemon.core import labels as label
from pycontainerd.daemon.core.images import Descriptor, Image
from pycontainerd.daemon.core.leases import Resource
from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.daemon.plugins.metadata_sqlite import leases
from pycontainerd.daemon.plugins.metadata_sqlite.columns import dump_map, load_map
from pycontainerd.lib.errdefs import AlreadyExists, InvalidArgument, NotFound
from pycontainerd.lib.identifiers import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.plugins.metadata_sqlite.database import Database, Transaction

_COLUMNS: Final = "name, media_type, digest, size, annotations, labels, created, updated"
_INSERT: Final = f"REPLACE INTO images (namespace, {_COLUMNS}) VALUES ({','.join('?' * 9)})"  # noqa: S608
_SELECT: Final = f"SELECT {_COLUMNS} FROM images WHERE namespace=?"  # noqa: S608 -- constants


class SqliteImageStore:
    """Implements core.images.ImageStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, scope: Scope, name: str) -> Image:
        row = self._database.read(lambda tx: tx.row(_SELECT + " AND name=?", scope.namespace, name))
        if row is None:
            raise NotFound(f"image {quoted(name)}: not found", hint=f"pull it first: ctr images pull {name}")
        return _from_row(row)

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Image]:
        matches = filters.parse_request(filter_texts)
        rows = self._database.read(lambda tx: tx.rows(_SELECT + " ORDER BY name", scope.namespace))
        return [image for image in map(_from_row, rows) if matches(images.adaptor(image))]

    def create(self, scope: Scope, image: Image) -> Image:
        images.require_valid(image)
        now = now_nanos()
        created = replace(image, labels=label.stored(image.labels), created_nanos=now, updated_nanos=now)

        def change(tx: Transaction) -> None:
            tx.ensure_namespace(scope.namespace)
            if tx.row("SELECT 1 FROM images WHERE namespace=? AND name=?", scope.namespace, created.name):
                raise AlreadyExists(f"image {quoted(created.name)}: already exists")
            _lease(tx, scope, created)
            tx.execute(_INSERT, scope.namespace, *_to_row(created))

        self._database.write(change)
        return created

    def update(self, scope: Scope, image: Image, paths: Sequence[str]) -> Image:
        if not image.name:
            raise InvalidArgument("image name is required for update: invalid argument")

        def change(tx: Transaction) -> Image:
            row = tx.row(_SELECT + " AND name=?", scope.namespace, image.name)
            if row is None:
                raise NotFound(f"image {quoted(image.name)}: not found")
            wanted = images.updated(_from_row(row), image, paths)
            images.require_valid(wanted)
            wanted = replace(wanted, labels=label.stored(wanted.labels), updated_nanos=now_nanos())
            _lease(tx, scope, wanted)
            tx.execute(_INSERT, scope.namespace, *_to_row(wanted))
            return wanted

        return self._database.write(change)

    def delete(self, scope: Scope, name: str, target: Descriptor | None = None) -> None:
        def change(tx: Transaction) -> None:
            row = tx.row("SELECT digest FROM images WHERE namespace=? AND name=?", scope.namespace, name)
            if row is None or (target is not None and row[0] != target.digest):
                raise NotFound(f"image {quoted(name)}: not found")
            leases.remove_leased(tx, scope, Resource("images", name))
            tx.execute("DELETE FROM images WHERE namespace=? AND name=?", scope.namespace, name)
            tx.mark_dirty("")

        self._database.write(change)


def _lease(tx: Transaction, scope: Scope, image: Image) -> None:
    """An image that expires is the request's lease's; one that doesn't needs nobody to hold it. Since containerd 2.0."""
    if gc.LABEL_EXPIRE in image.labels:
        leases.add_leased(tx, scope, Resource("images", image.name))


def _to_row(image: Image) -> tuple[Any, ...]:
    target = image.target
    return (
        image.name,
        target.media_type,
        target.digest,
        target.size_bytes,
        dump_map(label.stored(target.annotations)),
        dump_map(image.labels),
        image.created_nanos,
        image.updated_nanos,
    )


def _from_row(row: tuple[Any, ...]) -> Image:
    return Image(
        name=row[0],
        target=Descriptor(row[1], row[2], row[3], load_map(row[4])),
        labels=load_map(row[5]),
        created_nanos=row[6],
        updated_nanos=row[7],
    )
