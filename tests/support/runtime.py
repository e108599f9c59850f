"""Drives the OCI runtime under test by argv: ours, or the one that RUNTIME names (`RUNTIME=runc` checks the tests)."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from support.patience import seconds
from support.programs import ours, peer


def program() -> str:
    """The runtime's path."""
    name = os.environ.get("RUNTIME", "pyrunc")
    return ours("pyrunc") if name == "pyrunc" else peer(name)


def is_ours() -> bool:
    """Whether pyrunc is being tested."""
    return os.environ.get("RUNTIME", "pyrunc") == "pyrunc"


def differs(difference: str) -> bool:
    """Whether another runtime than ours is tested, for a difference that docs/conformance.md states with its reason.

    A unit test holds that every sentence given here, or to `ours_only`, stands there.
    """
    assert difference
    return not is_ours()


def ours_only(difference: str) -> pytest.MarkDecorator:
    """The mark of a test that Debian's runc can't pass, for a stated difference."""
    return pytest.mark.skipif(differs(difference), reason=f"stated difference: {difference}")


class Result:
    """An ended command."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    def __repr__(self) -> str:
        return f"Result(code={self.code}, out={self.out!r}, err={self.err!r})"


class Runtime:
    """One runtime with one state root; `clean()` removes every container of it."""

    def __init__(self, root: Path, path: str = "") -> None:
        self.root = root
        self.path = path or program()

    def argv(self, *words: str) -> list[str]:
        """The command line."""
        return [self.path, "--root", str(self.root), *words]

    def __call__(
        self,
        *words: str,
        stdin: str = "",
        timeout: float = 30,
        env: dict[str, str] | None = None,
        **more: Any,
    ) -> Result:
        done = subprocess.run(
            self.argv(*words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **(env or {})},
            **more,
        )
        return Result(done)

    def ok(self, *words: str, **more: Any) -> Result:
        """A command that must succeed."""
        done = self(*words, **more)
        assert done.code == 0, done
        return done

    def run(self, bundle: Path, id: str = "c", **more: Any) -> Result:
        """`run` in the foreground."""
        return self("run", "--bundle", str(bundle), id, **more)

    def create(self, bundle: Path, id: str = "c", *flags: str) -> None:
        """`create` with stdio on /dev/null, so that nobody waits for the container's pipes."""
        self.detached("create", "--bundle", str(bundle), *flags, id)

    def start_detached(self, bundle: Path, id: str = "c", *flags: str) -> None:
        """`run --detach`."""
        self.detached("run", "--detach", "--bundle", str(bundle), *flags, id)

    def detached(self, *words: str, **more: Any) -> None:
        """A command that must succeed and leaves a process behind; its output goes to a file, not to a pipe."""
        log = self.root.parent / "detached.log"
        with log.open("w+b") as out:
            done = subprocess.run(
                self.argv(*words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                timeout=30,
                check=False,
                **more,
            )
        assert done.returncode == 0, log.read_text(errors="replace")

    def state(self, id: str = "c") -> dict[str, Any]:
        """`state` as a document."""
        found: dict[str, Any] = json.loads(self.ok("state", id).out)
        return found

    def pid(self, id: str = "c") -> int:
        """Init's host pid."""
        return int(self.state(id)["pid"])

    def cgroup_paths(self, id: str = "c") -> dict[str, str]:
        """Controller -> cgroup; the one of version 2 has the key ""."""
        found: dict[str, str] = json.loads((self.root / id / "state.json").read_text())["cgroup_paths"]
        return found

    def cgroup(self, controller: str = "") -> Path:
        """The container's cgroup: a controller's, or the one there is."""
        paths = self.cgroup_paths()
        return Path(paths.get(controller) or paths[""])

    def limit(self, file: str) -> str:
        """A file of the container's cgroup, as the kernel shows it."""
        return (self.cgroup(file.partition(".")[0]) / file).read_text().strip()

    def wait_status(self, wanted: str, id: str = "c") -> None:
        """Waits for a status."""
        deadline = time.monotonic() + seconds(5)
        while (found := self.state(id)["status"]) != wanted:
            assert time.monotonic() < deadline, f"status is {found}, not {wanted}"
            time.sleep(0.02)

    def clean(self) -> None:
        """Deletes every container."""
        if self.root.exists():
            for entry in sorted(self.root.iterdir()):
                if entry.is_dir():
                    self("delete", "--force", entry.name)
