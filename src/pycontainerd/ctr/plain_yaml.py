"""The YAML (and so the JSON) of configuration files, with every value as the text that stands there.

Imported by what reads such a file when it reads one: the library costs more than a whole `pyctr version`.
"""

from __future__ import annotations

import yaml

from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any


def load(path: str, limit_bytes: int) -> Any:
    """What `parse` makes of a file; OSError, InvalidArgument for one that is too large, too."""
    with open(path, "rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise InvalidArgument(f"it is larger than {limit_bytes} bytes")
    try:
        return parse(data.decode())
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"it is not UTF-8: {error}") from error


def parse(document: str) -> Any:
    """Nested dicts and lists of texts, {} for an empty document; InvalidArgument says what isn't YAML where."""
    try:
        found = yaml.load(document, Loader=_Loader)  # noqa: S506 - it makes texts, lists and dicts only
    except yaml.YAMLError as error:
        raise InvalidArgument(f"it is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InvalidArgument("it is nested too deeply") from error
    return {} if found is None or found == "" else found


class _Loader(yaml.BaseLoader):
    """Refuses what stands twice, as Go's readers of these files do."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping of the document."""
        names = [key.value for key, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"{twice} stands twice, {node.start_mark}")
        return super().construct_mapping(node, deep)
