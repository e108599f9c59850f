"""Finds and loads this package's own modules: one stat each, and one open and one read for all that a command loads, where
Python's general way takes ten system calls a module and lists every folder.

The first run of a command leaves the code of its modules in a bundle, one file in the package's __pycache__:

    pcb3, importlib's magic number, the length of the next in four bytes, little-endian
    marshal of (folder of the package, {module: number of its group}, [bytes of each group])
    for each group: marshal of {module: (is package, size, mtime and ctime in ns, code, modules that loading it has loaded)}

The first group is what the first run has loaded; what a later one needed besides is a group of its own, decoded when one of
it is asked for.

A module is taken from it while its source is as it was, from its .pyc otherwise. What a module will import is loaded
before it runs, without importlib's locks and searches, as long as there is but one thread: its imports then find all in
sys.modules. Whatever isn't the plain case (no source, no valid .pyc) is left to the general way, which also writes the
.pyc. Who may write these files may write the sources beside them.

Spec: PEP 451, PEP 552 (the header of a .pyc file)
"""

from __future__ import annotations

import _imp
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader
from _thread import _count as _other_threads
from time import time

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

    Entry = tuple[bool, int, int, int, CodeType, tuple[str, ...]]

_PREFIX = __name__.partition(".")[0] + "."
_HEADER_BYTES = 16
_BY_TIMESTAMP = b"\0\0\0\0"
_CHUNK_BYTES = 64 << 10  # more than nearly every module has, and little enough for the heap
_SUFFIX = f".{sys.implementation.cache_tag}.pyc"
_BUNDLE_HEADER = b"pcb3" + MAGIC_NUMBER  # another digit for another form
_LENGTH_BYTES = 4
_ABANDONED_S = 60  # a bundle being written takes milliseconds


class _Loader(SourceFileLoader):
    """Python's own loader, with a shorter way to a module's code."""

    def __init__(self, name: str, path: str, found: posix.stat_result, entry: Entry | None) -> None:
        super().__init__(name, path)
        self._found = found
        self._entry = entry

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module's code in it, after what that will import."""
        if self._entry is not None:
            for name in self._entry[5]:
                _load_early(name)
            exec(self._entry[4], module.__dict__)  # noqa: S102 - it is what an import does
            return
        before = _bundle.is_kept and set(sys.modules)
        super().exec_module(module)
        if before:
            loaded = tuple(new for new in sys.modules if new not in before and new.startswith(_PREFIX))
            _bundle.note_imports(module.__name__, loaded)

    def get_code(self, fullname: str) -> CodeType | None:
        """The code of the source as it is now: the bundle's, a .pyc's, else as ever."""
        if self._entry is not None:
            return self._entry[4]
        code = self._cached_code() or super().get_code(fullname)
        if code is not None:
            is_package = self.path.endswith("/__init__.py")
            _bundle.add(fullname, (is_package, *_state(self._found), code, ()))
        return code

    def _cached_code(self) -> CodeType | None:
        folder, _, name = self.path.rpartition("/")
        try:
            fd = posix.open(f"{folder}/__pycache__/{name[:-3]}{_SUFFIX}", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return None
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
            return None
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
        spec = _bundled_spec(name, base)
        if spec is not None:
            return spec
        for file, folder in ((f"{base}.py", ""), (f"{base}/__init__.py", base)):
            found = _stat(file)
            if found is not None:
                return _spec(name, file, folder, _Loader(name, file, found, None))
        return None


def _bundled_spec(name: str, base: str) -> ModuleSpec | None:
    """Of a module in the bundle whose source, at `base`, is as it was."""
    entry = _bundle.entry(name)
    if entry is None:
        return None
    file = f"{base}/__init__.py" if entry[0] else f"{base}.py"
    found = _stat(file)
    if found is None or _state(found) != entry[1:4]:
        return None
    return _spec(name, file, base if entry[0] else "", _Loader(name, file, found, entry))


def _load_early(name: str) -> None:
    """Puts a bundled module into sys.modules, as importlib does; leaves it to the import where there is any doubt."""
    if name in sys.modules or _other_threads():
        return
    package, _, tail = name.rpartition(".")
    parent = sys.modules.get(package)
    if parent is None:
        return
    spec = _bundled_spec(name, f"{parent.__path__[0]}/{tail}")
    if spec is None:
        return
    module = type(sys)(name)
    module.__spec__ = spec
    module.__loader__ = spec.loader
    module.__file__ = spec.origin
    module.__cached__ = spec.cached  # type: ignore[attr-defined]
    module.__package__ = spec.parent
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001 - the import will say so, unless it was too early only (modules that import each other)
        del sys.modules[name]
        return
    setattr(parent, tail, module)


def _stat(file: str) -> posix.stat_result | None:
    try:
        return posix.stat(file)
    except OSError:
        return None


def _state(found: posix.stat_result) -> tuple[int, int, int]:
    """What tells a source from what it was: a bundle outlives an upgrade, which .pyc files come with."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _spec(name: str, file: str, folder: str, loader: _Loader) -> ModuleSpec:
    """As spec_from_file_location makes it; `folder` is a package's."""
    spec = ModuleSpec(name, loader, origin=file, is_package=bool(folder))
    spec._set_fileattr = True  # type: ignore[attr-defined]  # noqa: SLF001 - the module has a __file__
    if sys.pycache_prefix is None:
        head, _, tail = file.rpartition("/")
        spec.cached = (
            f"{head}/__pycache__/{tail[:-3]}{_SUFFIX}"  # said here, as the general way takes long to
        )
    if folder:
        spec.submodule_search_locations = [folder]
    return spec


class _Bundle:
    """What this process has of the file at `path`, and what it should have had."""

    __slots__ = ("_groups", "_has_changed", "_modules", "_new", "_path", "_where")

    def __init__(self) -> None:
        self._path = ""
        self._groups: list[memoryview | bytes] = []
        self._where: dict[str, int] = {}
        self._modules: dict[str, Entry] = {}  # of the groups that were asked for
        self._new: dict[str, Entry] = {}
        self._has_changed = False

    def read(self, path: str) -> None:
        """Takes what is there; nothing where that is of another Python, of another place, or not whole."""
        self._path = path
        try:
            fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return
        try:
            data = posix.read(fd, posix.fstat(fd).st_size)
        finally:
            posix.close(fd)
        if data[: len(_BUNDLE_HEADER)] != _BUNDLE_HEADER:
            return
        rest = memoryview(data)[len(_BUNDLE_HEADER) :]
        index_bytes = int.from_bytes(rest[:_LENGTH_BYTES], "little")
        try:
            # Who may write this file may write the sources.
            place, where, sizes = marshal.loads(rest[_LENGTH_BYTES:])  # noqa: S302
            at = _LENGTH_BYTES + index_bytes
            if place != _PLACE or at + sum(sizes) != len(rest):
                return
            self._modules = marshal.loads(rest[at:])  # noqa: S302
        except (EOFError, ValueError, TypeError):
            return
        for size in sizes:
            self._groups.append(rest[at : at + size])
            at += size
        self._where = where

    @property
    def is_kept(self) -> bool:
        """Whether this process may leave one."""
        return bool(self._path)

    def entry(self, name: str) -> Entry | None:
        """A module's, as it was when it was put there."""
        if name not in self._modules and name in self._where:
            try:
                self._modules.update(marshal.loads(self._groups[self._where[name]]))  # noqa: S302
            except (EOFError, ValueError, TypeError):
                return None  # what is loaded from elsewhere instead takes its place
        return self._modules.get(name)

    def add(self, name: str, entry: Entry) -> None:
        """A module that had to be loaded from elsewhere. Who writes no bundle keeps no code: a daemon would have it for good."""
        if not self.is_kept:
            return
        self._has_changed = self._has_changed or name in self._where
        self._new[name] = entry

    def note_imports(self, name: str, loaded: tuple[str, ...]) -> None:
        """What loading such a module has loaded, first what was first."""
        entry = self._new.get(name)
        if entry is not None:
            self._new[name] = (*entry[:5], loaded)

    def write(self) -> None:
        """Leaves the file for the next process, if this one had to load more. OSError where it can't be written.

        All that this one has loaded is one group when there is no file, or when sources have changed; otherwise what is
        new is one more, which no other process pays for.
        """
        if not self._path or not self._new:
            return
        groups, where = self._groups, self._where
        if self._has_changed or not groups:
            kept = {name: entry for name, entry in self._modules.items() if name in sys.modules}
            self._new, groups, where = {**kept, **self._new}, [], {}
        groups = [*groups, marshal.dumps(self._new)]
        where = {**where, **dict.fromkeys(self._new, len(groups) - 1)}
        temporary = f"{self._path}.new"
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
        try:
            fd = posix.open(temporary, flags, 0o644)
        except FileExistsError:
            # Another process writes it, or was killed while it did.
            found = _stat(temporary)
            if found is not None and time() - found.st_mtime > _ABANDONED_S:
                posix.unlink(temporary)
            return
        try:
            index = marshal.dumps((_PLACE, where, [len(group) for group in groups]))
            head = _BUNDLE_HEADER + len(index).to_bytes(_LENGTH_BYTES, "little") + index
            data = memoryview(head + b"".join(groups))
            while data:
                data = data[posix.write(fd, data) :]
            posix.fsync(fd)  # before the rename: after a crash of the machine it is the old one or whole
            posix.rename(temporary, self._path)
        except OSError:
            posix.unlink(temporary)
            raise
        finally:
            posix.close(fd)


_PLACE = __file__.rpartition("/")[0].rpartition("/")[0]  # the package's folder
_bundle = _Bundle()


def install(bundle: str = "") -> None:
    """From now on; once is enough. `bundle` names a file of this package's modules, to be read at once."""
    if sys.meta_path[0] is _Finder:
        return
    sys.meta_path.insert(0, _Finder)
    if bundle:
        _bundle.read(f"{_PLACE}/__pycache__/{bundle}.{sys.implementation.cache_tag}.bundle")


def leave_bundle() -> None:
    """Before a process ends: its modules for the next of its kind, if that is news."""
    if sys.dont_write_bytecode:
        return
    try:
        _bundle.write()
    except OSError:
        return  # no place to write, as for .pyc files: the next one takes the longer way as well
