"""The end of a metadata store while threads read from it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from pycontainerd.daemon.plugins.metadata_sqlite.database import Database
from pycontainerd.lib.errdefs import Unavailable

if TYPE_CHECKING:
    from pathlib import Path


def test_it_waits_for_a_read_under_way_and_refuses_the_next(tmp_path: Path) -> None:
    database = Database(f"{tmp_path}/meta.db")
    begun, go_on = threading.Event(), threading.Event()
    found: list[Any] = []

    def query(tx: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        return tx.row("SELECT 5")[0]

    def work() -> None:
        found.append(database.read(query))
        try:
            database.read(query)
        except Unavailable as error:
            found.append(error)

    reader, closer = threading.Thread(target=work), threading.Thread(target=database.close)
    reader.start()
    assert begun.wait(20)
    closer.start()
    closer.join(0.3)
    assert closer.is_alive()
    go_on.set()
    closer.join(20)
    reader.join(20)
    assert found[0] == 5
    assert isinstance(found[1], Unavailable)
    with pytest.raises(Unavailable, match="closed"):
        database.read(query)
