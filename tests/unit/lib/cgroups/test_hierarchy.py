"""Where hierarchies are mounted is read once, and again when anything about them may have changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[4] / "src"
# In a mount namespace of its own: `steps` is what is done between one question and the next.
ASK = """
import json, os, subprocess, sys
sys.path.insert(0, {src!r})
from pycontainerd.lib.cgroups import hierarchy
reads = []
read_text = hierarchy.read_text
def counted(path):
    reads.append(path)
    return read_text(path)
hierarchy.read_text = counted
def places():
    reads.clear()
    found = hierarchy.read_mounts()
    names = {{name: mount.point for name, mount in found.v1.items()}}
    return [reads.count("/proc/self/mountinfo"), {{**names, "": found.unified}}]
answers = [places(), places()]
name, point = next((name, point) for name, point in answers[0][1].items() if point)
for step in {steps!r}:
    subprocess.run([word.format(point=point, other={other!r}) for word in step], check=True)
    answers.append(places())
print(json.dumps([name, point, answers]))
"""


def ask(other: Path, *steps: list[str]) -> tuple[str, str, list[tuple[int, dict[str, str]]]]:
    other.mkdir(exist_ok=True)
    code = ASK.format(src=str(SRC), steps=list(steps), other=str(other))
    argv = ["unshare", "-m", "--propagation", "private", sys.executable, "-IS", "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    name, point, answers = json.loads(done.stdout)
    return name, point, answers


@pytest.mark.requires("root")
def test_what_is_known_is_not_read_again(tmp_path) -> None:
    _, _, (first, second) = ask(tmp_path / "other")
    assert first[0] == 1
    assert second[1] == first[1]
    # Where a hierarchy isn't mounted it may be by now: then it is read every time.
    named = {line.split(":")[1] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    mounted = all(first[1].get(part) for names in named for part in names.split(","))
    assert second[0] == (0 if mounted else 1)


@pytest.mark.requires("root")
def test_a_hierarchy_that_is_unmounted_or_moved_is_found_out(tmp_path) -> None:
    other = tmp_path / "other"
    name, point, answers = ask(
        other,
        ["mount", "--bind", "{point}", "{other}"],
        ["umount", "-l", "{point}"],
        ["umount", "-l", "{other}"],
    )
    (_, before), _, (_, beside), (_, moved), (_, gone) = answers
    assert before[name] == beside[name] == point
    assert moved[name] == str(other)
    assert not gone.get(name)


@pytest.mark.requires("root")
def test_a_hierarchy_that_something_was_mounted_on_is_found_out(tmp_path) -> None:
    _, _, answers = ask(tmp_path / "other", ["mount", "-t", "tmpfs", "tmpfs", "{point}"])
    assert answers[-1][0] == 1
