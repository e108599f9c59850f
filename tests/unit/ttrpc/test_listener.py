"""Shims' listening sockets: private, found when they are served, replaced when they aren't."""

from __future__ import annotations

import os
import socket

import pytest

from pycontainerd.lib import errdefs
from pycontainerd.lib.ttrpc import listener


def test_listener_is_private_and_found_again(tmp_path) -> None:
    address = f"unix://{tmp_path}/s/sock"
    made = listener.listen_unless_served(address)
    assert made is not None
    assert os.stat(tmp_path / "s").st_mode & 0o777 == 0o700
    assert os.stat(tmp_path / "s/sock").st_mode & 0o777 == 0o600
    assert listener.listen_unless_served(address) is None
    made.close()


def test_socket_of_a_dead_shim_is_replaced(tmp_path) -> None:
    (tmp_path / "s").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s/sock"))
    made = listener.listen_unless_served(f"unix://{tmp_path}/s/sock")
    assert made is not None
    made.close()


def test_what_cannot_be_bound_for_another_reason_is_left_alone(tmp_path) -> None:
    (tmp_path / "s").symlink_to("/nowhere")
    with pytest.raises(errdefs.Unknown, match=r"listen unix .*/s/sock: No such file"):
        listener.listen_unless_served(f"unix://{tmp_path}/s/sock")
    assert (tmp_path / "s").is_symlink()
