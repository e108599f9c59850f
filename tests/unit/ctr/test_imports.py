"""What starting a command loads: the hot ones nothing heavy, and no other command's code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[3] / "src"
HEAVY = {
    "typing", "enum", "re", "json", "dataclasses", "logging", "argparse", "asyncio", "inspect", "pathlib", "shutil",
    "subprocess", "tempfile", "threading", "ssl", "socket", "signal", "urllib3", "hashlib", "contextlib", "ctypes",
}  # fmt: skip


def loaded(module: str) -> set[str]:
    """The modules that the program and one noun bring along, without those that are part of the interpreter."""
    code = (
        f"import sys; sys.path.insert(0, {str(SRC)!r}); before = set(sys.modules); "
        f"import pycontainerd.ctr.main, pycontainerd.ctr.commands.{module}; print(*set(sys.modules) - before - set(sys.builtin_module_names))"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["run", "version", "containers", "tasks", "images", "content", "snapshots", "shim"]
)
def test_a_nouns_table_loads_no_code(module: str) -> None:
    found = loaded(module)
    assert not found & HEAVY
    assert not {
        name for name in found if name.startswith(("pycontainerd.client.", "pycontainerd.lib.registry"))
    }
    assert len(found) <= 24
