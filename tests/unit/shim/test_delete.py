"""The delete action of a shim whose container was made in process."""

from __future__ import annotations

import os

import pytest

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.shim.libcontainer import delete_now


def test_what_a_create_left_before_its_first_record_is_removed(tmp_path):
    (tmp_path / "c").mkdir()
    os.mkfifo(tmp_path / "c/exec.fifo")
    delete_now(str(tmp_path), "c")
    assert list(tmp_path.iterdir()) == []
    delete_now(str(tmp_path), "c")


def test_nothing_but_an_id_is_removed(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "other").mkdir()
    with pytest.raises(InvalidArgument):
        delete_now(str(tmp_path / "root"), "../other")
    assert (tmp_path / "other").is_dir()
