"""Containers of a user who isn't root: a user namespace of one id, no cgroups of its own.

Spec: runc spec --rootless; walkthrough S090
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycontainerd.lib.oci.template import rootless, template
from support.runtime import Result, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.requires("root", "userns")
UID = 1000


class UserRuntime(Runtime):
    """The runtime run as another user, with that user's default root."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(root), "XDG_RUNTIME_DIR": str(root)}

    def argv(self, *words: str) -> list[str]:
        return ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", self.path, *words]

    def __call__(self, *words, stdin="", **more) -> Result:
        done = subprocess.run(
            self.argv(*words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=self.environment,
        )
        return Result(done)

    def clean(self) -> None:
        for id in self("list", "--quiet").out.split():
            self("delete", "--force", id)


@pytest.fixture
def user(runtime, bundle, short_tmp):
    made = UserRuntime(short_tmp / "run")
    made.root.mkdir()
    spec = rootless(template(), UID, UID)
    spec["process"]["terminal"] = False
    bundle.spec = spec
    for folder, _names, files in os.walk(short_tmp):
        for path in (folder, *(f"{folder}/{name}" for name in files)):
            os.chown(path, UID, UID, follow_symlinks=False)
    with readable(made.path) as made.path:
        yield made
        made.clean()


@contextmanager
def readable(program: str) -> Iterator[str]:
    """The program's path in a place that every user can enter: its tree may lie below a home folder that only root can."""
    tree = Path(__file__).parents[3]
    if not Path(program).is_relative_to(tree):
        yield program
        return
    with tempfile.TemporaryDirectory(prefix="pt", dir="/tmp") as place:
        os.chmod(place, 0o755)
        subprocess.run(["mount", "--bind", tree, place], check=True)
        try:
            yield str(place / Path(program).relative_to(tree))
        finally:
            subprocess.run(["umount", place], check=True)


def test_run(user, bundle):
    done = user("run", "--bundle", str(bundle.sh("id -u; cat /proc/self/uid_map; exit 4").build()), "c")
    assert (done.code, done.out.split()) == (4, ["0", "0", str(UID), "1"]), done


def test_the_state_is_below_xdg_runtime_dir(user, bundle):
    user.detached(
        "run", "--detach", "--bundle", str(bundle.args("sleep", "100").build()), "c", env=user.environment
    )
    assert (user.root / "runc/c/state.json").exists()
    assert json.loads(user.ok("state", "c").out)["status"] == "running"


def test_exec(user, bundle):
    user.detached(
        "run", "--detach", "--bundle", str(bundle.args("sleep", "100").build()), "c", env=user.environment
    )
    done = user("exec", "c", "sh", "-c", "id -u; readlink /proc/self/ns/pid; readlink /proc/1/ns/pid; exit 5")
    assert done.code == 5, done
    number, own, first = done.out.split()
    assert number == "0"
    assert own == first


def test_cgroups_are_read_only(user, bundle):
    """R17, CVE-2023-25809."""
    done = user(
        "run",
        "--bundle",
        str(
            bundle.sh(
                "touch /sys/fs/cgroup/x; cd /sys/fs/cgroup; [ ! -d pids ] || cd pids; echo 1 > cgroup.procs"
            ).build()
        ),
        "c",
    )
    assert done.code != 0
    assert "Read-only" in done.err


@pytest.fixture
def delegated():
    """A cgroup that is the user's own; who is in `delegated / "from"` may be moved anywhere below."""
    path = Path("/sys/fs/cgroup") / f"pyrunc-user-{os.getpid()}"
    (path / "from").mkdir(parents=True)
    for folder in (path, path / "from"):
        for name in (".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(folder / name, UID, UID)
    yield path
    for folder in (path / "from", path):
        folder.rmdir()


@pytest.mark.requires("cgroup_v2")
def test_limits_without_a_cgroup_for_them_are_an_error(user, bundle):
    bundle.linux["resources"] = {"pids": {"limit": 33}}
    done = user("run", "--bundle", str(bundle.args("true").build()), "c")
    assert done.code == 1
    assert "rootless needs no limits + no cgrouppath when no permission is granted for cgroups" in done.err


@pytest.mark.requires("cgroup_v2")
def test_a_named_cgroup_that_the_user_may_not_make_is_an_error(user, bundle):
    bundle.linux["cgroupsPath"] = "/some-where"
    done = user("run", "--bundle", str(bundle.args("true").build()), "c")
    assert done.code == 1
    assert "mkdir /sys/fs/cgroup/some-where: permission denied" in done.err


@pytest.mark.requires("cgroup_v2")
def test_limits_in_a_cgroup_that_was_delegated(user, bundle, delegated):
    bundle.linux["cgroupsPath"] = f"/{delegated.name}/c"
    bundle.linux["resources"] = {"pids": {"limit": 33}, "memory": {"limit": 64 << 20}}
    start = user.argv("run", "--detach", "--bundle", str(bundle.args("sleep", "100").build()), "c")
    enter = f'echo $$ > {delegated}/from/cgroup.procs && exec "$@"'
    subprocess.run(
        ["sh", "-c", enter, "sh", *start],
        env=user.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=30,
        check=True,
    )
    assert (delegated / "c/cgroup.procs").read_text().split() == [str(user.pid())]
    assert (delegated / "c/pids.max").read_text() == "33\n"
    assert (delegated / "c/memory.max").read_text() == f"{64 << 20}\n"
    assert user("pause", "c").code == 0
    assert "frozen 1" in (delegated / "c/cgroup.events").read_text()
    user.ok("resume", "c")
    user.ok("delete", "--force", "c")
    assert not (delegated / "c").exists()
