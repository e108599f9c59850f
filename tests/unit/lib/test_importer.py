"""The short way to our own modules gives what Python's general way gives, and leaves every other case to that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
