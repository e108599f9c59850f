"""Id maps in a snapshot's labels: who root is outside, and what is no map."""

from __future__ import annotations

import pytest

from pycontainerd.daemon.core import id_maps
from pycontainerd.lib.errdefs import Unknown


def labels(uids: str = "", gids: str = "") -> dict[str, str]:
    return {id_maps.UID_LABEL: uids, id_maps.GID_LABEL: gids}


@pytest.mark.parametrize(
    ("uids", "gids", "owner"),
    [
        ("", "", None),
        ("0:1000:1", "0:2000:5", (1000, 2000)),
        ("100:5000:10,0:1000:100", "0:7:1", (1000, 7)),
        ("0:1000:1", "", (1000, 0)),
        ("0:1:1 and more", " 0:+2:1", (1, 2)),  # Sscanf reads as far as it can
    ],
)
def test_the_root_of_a_container_outside(uids: str, gids: str, owner: tuple[int, int] | None) -> None:
    assert id_maps.root_owner(labels(uids, gids)) == owner


UNPARSABLE = "failed to unmarshal snapshot ID mapped labels: input value {} unparsable: {}"


@pytest.mark.parametrize(
    ("uids", "words"),
    [
        ("x", UNPARSABLE.format("x", "expected integer")),
        ("0:1", UNPARSABLE.format("0:1", "unexpected EOF")),
        ("0:", UNPARSABLE.format("0:", "unexpected EOF")),
        ("0-1-1", UNPARSABLE.format("0-1-1", "input does not match format")),
        ("0:1:1,", UNPARSABLE.format("", "EOF")),
        (
            "0:99999999999999999999:1",
            UNPARSABLE.format(
                "0:99999999999999999999:1",
                'strconv.ParseInt: parsing "99999999999999999999": value out of range',
            ),
        ),
        ("0:-1:1", 'failed to unmarshal snapshot ID mapped labels: invalid mapping "0:-1:1"'),
        ("0:4294967295:1", 'failed to unmarshal snapshot ID mapped labels: invalid mapping "0:4294967295:1"'),
        ("1:1000:5", "failed to find root pair: container ID 0 cannot be mapped to a host ID"),
        ("0:1000:0", "failed to find root pair: container ID 0 cannot be mapped to a host ID"),
        (
            "4294967290:5:10,0:1:1",
            "failed to find root pair: container ID 0 cannot be mapped to a host ID",
        ),
    ],
)
def test_what_is_no_map_is_refused_in_containerds_words(uids: str, words: str) -> None:
    with pytest.raises(Unknown) as caught:
        id_maps.root_owner(labels(uids, "0:1:1"))
    assert str(caught.value) == words


def test_options_of_a_mount() -> None:
    assert id_maps.mount_options(labels("0:1:2,2:9:1", "0:3:4")) == ("uidmap=0:1:2,2:9:1", "gidmap=0:3:4")
    assert id_maps.mount_options({}) == ()
