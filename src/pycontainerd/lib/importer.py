"""Finds and loads this package's own modules: one stat, one open and one read each, where Python's general way takes ten
system calls and lists every folder.

Whatever isn't the plain case (no source, no valid .pyc) is left to the general way, which also writes the .pyc.

Spec: PEP 451, PEP 552 (the header of a .pyc file)
"""

from __future__ import annotations

import _imp
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

_PREFIX = __name__.partition(".")[0] + "."
_HEADER_BYTES = 16
_BY_TIMESTAMP = b"\0\0\0\0"
_CHUNK_BYTES = 64 << 10  # more than nearly every module has, and little enough for the heap
_SUFFIX = f".{sys.implementation.cache_tag}.pyc"


class _Loader(SourceFileLoader):
    """Python's own loader, with a shorter way to a module's code."""

    def __init__(self, name: str, path: str, found: posix.stat_result) -> None:
        super().__init__(name, path)
        self._found = found

    def get_code(self, fullname: str) -> CodeType | None:
        """The code of a .pyc that was made from the source as it is now; else as ever."""
        folder, _, name = self.path.rpartition("/")
        try:
            fd = posix.open(f"{folder}/__pycache__/{name[:-3]}{_SUFFIX}", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return super().get_code(fullname)
        try:
            data = piece = posix.read(fd, _CHUNK_BYTES)
            while len(piece) == _CHUNK_BYTES:
                piece = posix.read(fd, _CHUNK_BYTES)
                data += piece
        finally:
            posix.close(fd)
        made_from = (int(self._found.st_mtime) & 0xFFFFFFFF, self._found.st_size & 0xFFFFFFFF)
        stamp = b"".join(number.to_bytes(4, "little") for number in made_from)
        if data[:_HEADER_BYTES] != MAGIC_NUMBER + _BY_TIMESTAMP + stamp:
            return super().get_code(fullname)
        # Who may write this file may write the source beside it.
        code: CodeType = marshal.loads(memoryview(data)[_HEADER_BYTES:])  # noqa: S302
        _imp._fix_co_filename(code, self.path)  # type: ignore[attr-defined]  # noqa: SLF001 - as importlib does
        return code


class _Finder:
    """First on sys.meta_path, for names of this package only."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """PEP 451."""
        if not name.startswith(_PREFIX) or not path:
            return None
        base = f"{path[0]}/{name.rpartition('.')[2]}"
        for file, folders in ((f"{base}.py", None), (f"{base}/__init__.py", [base])):
            try:
                found = posix.stat(file)
            except OSError:
                continue
            spec = ModuleSpec(name, _Loader(name, file, found), origin=file, is_package=folders is not None)
            # As spec_from_file_location does: the module has a __file__.
            spec._set_fileattr = True  # type: ignore[attr-defined]  # noqa: SLF001
            if folders is not None:
                spec.submodule_search_locations = folders
            return spec
        return None


def install() -> None:
    """From now on; once is enough."""
    if sys.meta_path[0] is not _Finder:
        sys.meta_path.insert(0, _Finder)
