"""The shim's import budget: what thousands of processes would pay for."""

import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parents[3] / "src"
FORBIDDEN = [
    "typing",
    "enum",
    "re",
    "json",
    "dataclasses",
    "logging",
    "argparse",
    "asyncio",
    "socket",
    "subprocess",
    "pathlib",
    "inspect",
    "contextlib",
    "hashlib",
    "signal",
    "threading",
    "traceback",
    "google",
    "grpclib",
    "ssl",
    "sqlite3",
    "pycontainerd.runtime",
    "pycontainerd.daemon",
    "pycontainerd.client",
]


def loaded_by(*modules: str) -> set[str]:
    code = f"import sys; sys.path.insert(0, {str(SRC)!r}); import {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_serving_loads_nothing_heavy() -> None:
    loaded = loaded_by("pycontainerd.shim.main", "pycontainerd.shim.serve", "pycontainerd.lib.cgroup_metrics")
    assert not {name for name in loaded if name in FORBIDDEN}
    assert len(loaded) < 130


def test_ttrpc_client_loads_nothing_heavy() -> None:
    loaded = loaded_by("pycontainerd.lib.ttrpc.client")
    assert not {name for name in loaded if name in FORBIDDEN}
    assert len(loaded) < 60
