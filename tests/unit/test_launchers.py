"""The launchers: one text under six names, from anywhere, with nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.programs import BIN, ours

PROGRAMS = (
    "pyctr",
    "pycontainerd",
    "pyrunc",
    "containerd-shim-pyrunc-v2",
    "containerd-shim-pyrunc-v1",
    "containerd-shim-py",
)


def test_all_launchers_are_the_same_text():
    assert sorted(os.listdir(BIN)) == sorted(PROGRAMS)
    assert len({Path(ours(program)).read_bytes() for program in PROGRAMS}) == 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_starts_from_anywhere_with_an_empty_environment(program, tmp_path):
    flag = "-v" if program.startswith("containerd-shim") else "--version"
    done = subprocess.run(
        [ours(program), flag], env={}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if program == "containerd-shim-py":  # the shim it stands for tells no version
        assert (done.returncode, done.stderr.partition("\n")[0]) == (2, "flag provided but not defined: -v")
        return
    assert (done.returncode, done.stderr) == (0, "")
    assert "0.1.0" in done.stdout


def test_a_link_of_another_name_starts_the_program_it_points_to(tmp_path):
    (tmp_path / "runc").symlink_to(ours("pyrunc"))
    done = subprocess.run(["./runc", "--version"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_copy_without_its_package_says_what_to_do(tmp_path):
    copy = tmp_path / "pyrunc"
    copy.write_bytes(Path(ours("pyrunc")).read_bytes())
    copy.chmod(0o755)
    done = subprocess.run([copy], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "its package is not beside it" in done.stderr
