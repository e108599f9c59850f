"""run --config: what of the file is taken, and what is refused with its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pycontainerd.ctr import container_spec
from pycontainerd.lib.errdefs import InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path


def read(tmp_path: Path, document: Any) -> dict[str, Any]:
    file = tmp_path / "config.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return container_spec.from_file(str(file))


def test_what_the_specification_knows_is_taken(tmp_path: Path) -> None:
    whole = {
        "process": {"args": ["x"], "terminal": None, "x": 1},
        "linux": None,
        "windows": {"layerFolders": ["a"]},
        "y": 2,
    }
    assert read(tmp_path, whole) == {"process": {"args": ["x"]}, "windows": {"layerFolders": ["a"]}}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"process": "x"}, "process: expected object, found string"),
        ({"process": {"args": ["a", 5]}}, r"process.args\[1\]: expected string, found number"),
        ({"linux": {"namespaces": {}}}, "linux.namespaces: expected array, found object"),
        ([], "expected object, found array"),
        ("{", "unexpected EOF"),
        ("", "EOF"),
    ],
)
def test_what_is_no_spec_is_refused(tmp_path: Path, document: Any, text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"failed to unmarshal spec: .*{text}"):
        read(tmp_path, document)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"cannot load spec config file: .*no such file"):
        container_spec.from_file(str(tmp_path / "none"))
