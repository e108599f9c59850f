"""The runtime-spec document of a container's record, which anybody may have written."""

from __future__ import annotations

import pytest

from pycontainerd.client.containers import spec_of
from pycontainerd.lib.api.light import containers_v1, wkt
from pycontainerd.lib.errdefs import InvalidArgument


def record(data: bytes) -> containers_v1.Container:
    return containers_v1.Container(id="c", spec=wkt.Any(type_url="x", value=data))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", {}),
        (b'{"process":null,"y":1}', {"y": 1}),
        (b'{"process":{"terminal":true},"x":[]}', {"process": {"terminal": True}, "x": []}),
    ],
)
def test_a_document(data: bytes, expected: dict[str, object]) -> None:
    assert spec_of(record(data)) == expected


@pytest.mark.parametrize(
    "data", [b"[]", b"5", b"null", b"{", b"\xff", b'{"process":5}', b'{"linux":[]}', b'{"root":""}']
)
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="the spec of container c is no document"):
        spec_of(record(data))
