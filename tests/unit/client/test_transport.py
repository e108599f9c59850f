"""Which of a daemon's sockets a client takes, and what it says of one that doesn't answer."""

from __future__ import annotations

import _socket

import pytest

from pycontainerd.client import transport
from pycontainerd.lib.errdefs import Unavailable


@pytest.fixture
def listening(short_tmp):
    """Two sockets that take connections, and nobody who answers."""
    made = []
    for name in ("c.sock", "c.sock.ttrpc"):
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        sock.bind(str(short_tmp / name))
        sock.listen(8)
        made.append(sock)
    yield str(short_tmp / "c.sock")
    for sock in made:
        sock.close()


def test_a_daemon_that_is_there_and_slow_is_not_asked_in_another_way(listening) -> None:
    with pytest.raises(Unavailable, match=r"failed to dial .*timeout") as caught:
        transport.connect(listening, 0.1)
    assert f'"{listening}"' in str(caught.value)
    assert "Connection timed out" in caught.value.hint


def test_nobody_at_all_is_said_so(short_tmp) -> None:
    with pytest.raises(Unavailable, match="failed to dial") as caught:
        transport.connect(str(short_tmp / "none.sock"), 0.1)
    assert "No such file" in caught.value.hint
