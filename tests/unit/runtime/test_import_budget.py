"""What a cold pyrunc loads: the expensive modules of the standard library never, our own only where needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[3] / "src"
EXPENSIVE = {
    "typing",
    "enum",
    "re",
    "json",
    "dataclasses",
    "logging",
    "argparse",
    "asyncio",
    "subprocess",
    "pathlib",
    "inspect",
    "_socket",
    "socket",
    "signal",
    "functools",
    "collections",
    "contextlib",
    "hashlib",
    "threading",
    "shutil",
    "tempfile",
}
VERBS = (
    "create",
    "run",
    "start",
    "state",
    "kill",
    "delete",
    "exec",
    "list",
    "ps",
    "pause",
    "resume",
    "update",
)


def loaded(module: str) -> set[str]:
    code = f"import sys; sys.path.insert(0, {str(SRC)!r}); import {module}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_loads_an_expensive_module(verb):
    assert loaded(f"pycontainerd.runtime.cli.verbs.{verb}") & EXPENSIVE == set()


def test_neither_create_nor_exec_loads_an_expensive_module():
    folder = "pycontainerd.runtime.libcontainer"
    assert loaded(f"{folder}.create, {folder}.exec") & EXPENSIVE == set()


def test_the_entry_alone_loads_no_container_code():
    assert not any("libcontainer" in name for name in loaded("pycontainerd.runtime.cli.main"))


@pytest.mark.parametrize("verb", ["delete", "kill", "list", "start", "state"])
def test_what_makes_a_container_is_not_loaded_for_one_that_is_there(verb):
    found = loaded(f"pycontainerd.runtime.cli.verbs.{verb}")
    assert not {f"pycontainerd.runtime.libcontainer.{name}" for name in ("create", "plan", "parent")} & found


def test_number_of_modules_of_a_run():
    bare = loaded("sys")
    run = loaded("pycontainerd.runtime.cli.verbs.run, pycontainerd.runtime.libcontainer.create")
    assert len(run - bare) <= 84


def test_init_imports_nothing_of_its_own():
    """Lazy imports on the init side would happen inside a container."""
    folder = SRC / "pycontainerd/runtime/libcontainer"
    lazy = []
    for path in (*folder.glob("init/*.py"), *folder.glob("rootfs/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                lazy += [
                    f"{path.name}:{inner.lineno}"
                    for inner in ast.walk(node)
                    if isinstance(inner, (ast.Import, ast.ImportFrom))
                ]
    assert lazy == []
