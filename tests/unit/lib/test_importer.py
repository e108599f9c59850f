"""The short way to our own modules gives what Python's general way gives, and leaves every other case to that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pycontainerd.lib import launcher

SRC = Path(__file__).resolve().parents[3] / "src"
TELL = """
import sys, json
sys.path.insert(0, {root!r})
if {short}:
    from pycontainerd.lib import importer
    importer.install()
import {module}
module = sys.modules[{module!r}]
spec = module.__spec__
print(json.dumps([
    module.__name__, module.__file__, module.__package__, list(getattr(module, "__path__", [])), spec.origin,
    spec.cached, spec.has_location, spec.parent, type(module.__loader__).__mro__[-3].__name__, getattr(module, "VALUE", 0),
]))
"""


def tell(root: Path, module: str, *, short: bool = True, **env: str) -> list[object]:
    code = TELL.format(root=str(root), module=module, short=short)
    done = subprocess.run(
        [sys.executable, "-IS", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **env},
    )
    found: list[object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "module", ["pycontainerd.lib.errdefs", "pycontainerd.lib.oci", "pycontainerd.lib.api.light.types"]
)
def test_a_module_looks_the_same(module) -> None:
    assert tell(SRC, module) == tell(SRC, module, short=False)


@pytest.fixture
def tree(tmp_path):
    """A package of the same name with this importer and one module to change."""
    lib = tmp_path / "pycontainerd/lib"
    lib.mkdir(parents=True)
    for folder in (lib, lib.parent):
        (folder / "__init__.py").write_text("")
    (lib / "importer.py").write_text((SRC / "pycontainerd/lib/importer.py").read_text())
    (lib / "some.py").write_text("VALUE = 1\n")
    return tmp_path


def cached(tree) -> Path:
    return tree / f"pycontainerd/lib/__pycache__/some.{sys.implementation.cache_tag}.pyc"


def value(tree) -> object:
    return tell(tree, "pycontainerd.lib.some")[-1]


def test_the_first_import_writes_the_code(tree) -> None:
    assert value(tree) == 1
    before = cached(tree).stat().st_mtime_ns
    assert value(tree) == 1
    assert cached(tree).stat().st_mtime_ns == before


@pytest.mark.parametrize("seconds", [0, 10])
def test_a_source_that_changed_is_compiled_again(tree, seconds) -> None:
    assert value(tree) == 1
    source = tree / "pycontainerd/lib/some.py"
    at = source.stat().st_mtime + seconds
    source.write_text("VALUE = 22\n")
    os.utime(source, (at, at))
    assert value(tree) == 22


@pytest.mark.parametrize("data", [b"", b"\0" * 16, b"\0" * 300])
def test_code_that_is_none_is_made_anew(tree, data) -> None:
    assert value(tree) == 1
    cached(tree).write_bytes(data)
    assert value(tree) == 1


def test_code_checked_by_hash_is_python_s_business(tree) -> None:
    import py_compile

    source = tree / "pycontainerd/lib/some.py"
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    at = source.stat().st_mtime
    source.write_text("VALUE = 2\n")
    os.utime(source, (at, at))
    assert value(tree) == 2


def test_a_large_module_is_read_whole(tree) -> None:
    source = tree / "pycontainerd/lib/some.py"
    source.write_text("".join(f"name{number} = {number!r}\n" for number in range(10_000)) + "VALUE = 3\n")
    assert value(tree) == 3
    assert cached(tree).stat().st_size > 128 << 10
    assert value(tree) == 3


def test_a_module_that_is_not_there_is_an_import_error(tree) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        tell(tree, "pycontainerd.lib.nothing")


BUNDLED = """
import sys
sys.path.insert(0, {root!r})
from pycontainerd.lib import importer
importer.install("some-command")
import pycontainerd.lib.some, pycontainerd.lib.other
{more}
print(pycontainerd.lib.some.VALUE, pycontainerd.lib.other.name())
importer.leave_bundle()
"""


class Bundled:
    """Processes of one command in a tree with two modules and a package."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.file = tree / f"pycontainerd/__pycache__/some-command.{sys.implementation.cache_tag}.bundle"
        (tree / "pycontainerd/lib/other").mkdir()
        (tree / "pycontainerd/lib/other/__init__.py").write_text("def name():\n    return __name__\n")
        (tree / "pycontainerd/lib/third.py").write_text("")

    def run(self, more: str = "", *, flags: tuple[str, ...] = ()) -> str:
        done = subprocess.run(
            [sys.executable, "-IS", *flags, "-c", BUNDLED.format(root=str(self.tree), more=more)],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def opened(self, name: str) -> bool:
        """Whether a process opens a module's own code."""
        trace = self.tree / "trace"
        code = BUNDLED.format(root=str(self.tree), more="")
        argv = ["strace", "-qq", "-e", "trace=openat", "-o", trace, sys.executable, "-IS", "-c", code]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        return f"/{name}.{sys.implementation.cache_tag}.pyc" in trace.read_text()


@pytest.fixture
def bundled(tree) -> Bundled:
    return Bundled(tree)


@pytest.mark.requires("strace")
def test_the_second_run_of_a_command_opens_one_file(bundled) -> None:
    assert bundled.opened("some")
    assert bundled.file.exists()
    assert bundled.run() == "1 pycontainerd.lib.other"
    assert not bundled.opened("some")


def test_a_module_from_a_bundle_looks_the_same(bundled) -> None:
    more = "import json; m = pycontainerd.lib.other; s = m.__spec__; print(json.dumps([m.__file__, m.__package__, \
m.__path__, s.origin, s.cached, s.has_location, s.parent, m.name.__code__.co_filename, type(m.__loader__).__name__]))"
    first = bundled.run(more)
    assert bundled.file.exists()
    assert bundled.run(more) == first


def test_a_run_that_loads_nothing_new_leaves_the_bundle_and_one_that_does_adds_to_it(bundled) -> None:
    bundled.run()
    first = bundled.file.stat()
    bundled.run()
    assert bundled.file.stat().st_ino == first.st_ino
    bundled.run("import pycontainerd.lib.third")
    assert bundled.file.stat().st_size > first.st_size
    second = bundled.file.stat()
    bundled.run()  # and keeps what this one doesn't need
    assert bundled.file.stat().st_ino == second.st_ino


def test_what_another_run_needed_is_not_decoded_by_one_that_does_without(bundled) -> None:
    bundled.run()
    bundled.run("import pycontainerd.lib.third")
    have = "print(sorted(name.rpartition('.')[2] for name in importer._bundle._modules))"
    assert bundled.run(have).splitlines()[0] == "['other', 'some']"
    more = f"import pycontainerd.lib.third; {have}"
    assert bundled.run(more).splitlines()[0] == "['other', 'some', 'third']"


def test_what_sources_were_once_does_not_stay_in_the_bundle(bundled) -> None:
    bundled.run("import pycontainerd.lib.third")
    for number in (10, 100, 1000, 10_000):
        (bundled.tree / "pycontainerd/lib/some.py").write_text(f"VALUE = {number}\n")
        assert bundled.run() == f"{number} pycontainerd.lib.other"
    groups = "print(len(importer._bundle._groups), 'third' in str(importer._bundle._where))"
    assert bundled.run(groups).splitlines()[0] == "1 False"


@pytest.mark.parametrize("seconds", [0, 10, -10])
def test_a_source_that_changed_is_not_taken_from_the_bundle(bundled, seconds) -> None:
    assert bundled.run() == "1 pycontainerd.lib.other"
    source = bundled.tree / "pycontainerd/lib/some.py"
    at = source.stat().st_mtime + seconds
    source.write_text("VALUE = 22\n")
    os.utime(source, (at, at))
    assert [bundled.run(), bundled.run()] == ["22 pycontainerd.lib.other"] * 2


def test_a_source_of_the_same_size_and_time_is_not_taken_for_the_one_in_the_bundle(bundled) -> None:
    bundled.run()
    source = bundled.tree / "pycontainerd/lib/some.py"
    before = source.stat()
    source.write_text("VALUE = 2\n")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    cached(bundled.tree).unlink()  # as an upgrade does it
    assert source.stat().st_size == before.st_size
    assert bundled.run() == "2 pycontainerd.lib.other"


def test_a_module_that_became_a_package_is_found(bundled) -> None:
    bundled.run()
    (bundled.tree / "pycontainerd/lib/some.py").unlink()
    (bundled.tree / "pycontainerd/lib/some").mkdir()
    (bundled.tree / "pycontainerd/lib/some/__init__.py").write_text("VALUE = 3\n")
    assert [bundled.run(), bundled.run()] == ["3 pycontainerd.lib.other"] * 2


@pytest.mark.parametrize("keep", [0, 3, 8, 12, 100, -1])
def test_a_bundle_that_is_not_whole_is_made_anew(bundled, keep) -> None:
    bundled.run()
    cut = bundled.file.stat()
    bundled.file.write_bytes(bundled.file.read_bytes()[:keep])
    assert bundled.run() == "1 pycontainerd.lib.other"
    anew = bundled.file.stat()
    assert anew.st_ino != cut.st_ino
    assert bundled.run() == "1 pycontainerd.lib.other"
    assert bundled.file.stat().st_ino == anew.st_ino


def test_a_group_that_is_not_whole_is_made_anew(bundled) -> None:
    bundled.run()
    whole = bundled.file.stat().st_size
    third = "import pycontainerd.lib.third"
    bundled.run(third)
    data = bundled.file.read_bytes()
    bundled.file.write_bytes(data[: len(data) - 20] + bytes(20))
    assert len(data) > whole + 20
    assert [bundled.run(third), bundled.run(third)] == ["1 pycontainerd.lib.other"] * 2
    assert bundled.file.read_bytes()[-20:] != bytes(20)


@pytest.mark.parametrize("data", [b"\0" * 400, b"pcb3" + b"\0" * 400, b"something else"])
def test_what_is_no_bundle_is_made_anew(bundled, data) -> None:
    bundled.run()
    bundled.file.write_bytes(data)
    assert bundled.run() == "1 pycontainerd.lib.other"
    assert bundled.file.read_bytes().startswith(b"pcb3")


def test_a_bundle_of_another_place_is_not_used(bundled, tmp_path) -> None:
    bundled.run()
    moved = tmp_path / "moved"
    moved.mkdir()
    (bundled.tree / "pycontainerd").rename(moved / "pycontainerd")
    bundled.tree, before = moved, bundled.file.name
    told = "print(pycontainerd.lib.other.name.__code__.co_filename)"
    assert bundled.run(told).splitlines()[0].startswith(str(moved))
    assert (moved / "pycontainerd/__pycache__" / before).exists()
    assert bundled.run(told).splitlines()[0].startswith(str(moved))


def test_no_bundle_is_written_where_no_bytecode_is(bundled) -> None:
    bundled.run(flags=("-B",))
    assert not bundled.file.exists()


def test_a_folder_that_can_not_be_written_is_no_failure(bundled) -> None:
    (bundled.tree / "pycontainerd/__pycache__").write_text("no folder")
    assert bundled.run() == "1 pycontainerd.lib.other"


def test_what_a_killed_writer_left_is_removed_once_it_is_old(bundled) -> None:
    bundled.run()
    bundled.file.unlink()
    left = bundled.file.with_name(bundled.file.name + ".new")
    left.write_bytes(b"half")
    bundled.run()
    assert left.exists()  # it may still be written
    assert not bundled.file.exists()
    os.utime(left, (0, 0))
    bundled.run()
    assert not left.exists()
    bundled.run()
    assert bundled.file.exists()


def test_processes_that_end_together_leave_one_whole_bundle(bundled) -> None:
    argv = [sys.executable, "-IS", "-c", BUNDLED.format(root=str(bundled.tree), more="")]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    assert {one.communicate()[0].strip() for one in running} == {"1 pycontainerd.lib.other"}
    assert bundled.run() == "1 pycontainerd.lib.other"
    assert bundled.file.exists()
    assert not bundled.file.with_name(bundled.file.name + ".new").exists()


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["pyrunc", "--root", "/r", "run", "c"], "pyrunc-run"),
        (["pyrunc", "exec", "run", "ls"], "pyrunc-exec"),
        (["pyctr", "run", "--rm", "image", "c", "ls"], "pyctr-run"),
        (["pyctr", "c", "info", "c"], "pyctr-c"),
        (["pyctr", "-n", "x", "task", "exec", "--exec-id", "e", "c", "ls"], "pyctr-task-exec"),
        (["pyctr", "--help"], ""),
        (["pycontainerd-layer", "run"], ""),
    ],
)
def test_a_commands_words_name_its_bundle(argv, name) -> None:
    assert launcher._bundle(argv[0], argv) == name


EARLY = """
import sys, threading
sys.path.insert(0, {root!r})
from pycontainerd.lib import importer
early = []
way = importer._load_early
def load(name):
    before = name in sys.modules
    way(name)
    if not before and name in sys.modules:
        early.append(name.rpartition(".")[2])
importer._load_early = load
importer.install("some-command")
{before}
try:
    import pycontainerd.lib.outer
    from pycontainerd.lib import inner
    print(pycontainerd.lib.outer.SEEN, inner.__spec__.origin == inner.__file__, pycontainerd.lib.inner is inner, *early)
except Exception as error:
    print(type(error).__name__, error, "outer" in str(sys.modules.keys()), "inner" in str(sys.modules.keys()), *early)
importer.leave_bundle()
"""


@pytest.fixture
def nested(tree):
    """A module that imports another one, and a way to load it in a process of its own."""
    lib = tree / "pycontainerd/lib"
    (lib / "outer.py").write_text("from pycontainerd.lib.inner import VALUE\n\nSEEN = VALUE\n")
    (lib / "inner.py").write_text("VALUE = 5\n")

    def run(before: str = "") -> str:
        argv = [sys.executable, "-IS", "-c", EARLY.format(root=str(tree), before=before)]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    return lib, run


def test_what_a_module_will_import_is_loaded_before_it_runs(nested) -> None:
    _, run = nested
    assert [run(), run()] == ["5 True True", "5 True True inner"]


def test_where_there_are_threads_the_import_loads_it(nested) -> None:
    _, run = nested
    run()
    assert run("threading.Thread(target=threading.Event().wait, daemon=True).start()") == "5 True True"


def test_one_that_changed_is_left_to_the_import(nested) -> None:
    lib, run = nested
    run()
    (lib / "inner.py").write_text("VALUE = 66\n")
    assert run() == "66 True True"


def test_one_that_fails_does_so_as_in_an_import_and_is_not_left_behind(nested) -> None:
    lib, run = nested
    (lib / "inner.py").write_text("import sys\nVALUE = 5\nif hasattr(sys, 'broken'): raise KeyError('why')\n")
    run()
    found = [
        run("sys.broken = 1"),
        run(
            "sys.broken = 1; sys.dont_write_bytecode = True; importer._bundle._modules.clear(); importer._bundle._where.clear()"
        ),
    ]
    assert found == ["KeyError 'why' False False"] * 2


def test_modules_that_import_each_other_are_loaded_as_ever(nested) -> None:
    lib, run = nested
    (lib / "inner.py").write_text("import pycontainerd.lib.outer\n\nVALUE = 7\n")
    assert [run(), run()] == ["7 True True", "7 True True inner"]


def test_one_that_needs_what_imports_it_is_left_to_the_import(nested) -> None:
    lib, run = nested
    (lib / "outer.py").write_text("EARLY = 8\nfrom pycontainerd.lib.inner import VALUE\n\nSEEN = VALUE\n")
    (lib / "inner.py").write_text("from pycontainerd.lib.outer import EARLY\n\nVALUE = EARLY\n")
    assert [run(), run()] == ["8 True True", "8 True True"]
