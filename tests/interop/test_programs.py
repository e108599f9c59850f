"""Programs as one runnable file each (S008, S009): built in a folder of the test's, run where the sources are out of reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pycontainerd.version import __version__
from support import shims
from support.programs import BIN, TOP
from support.walkthrough import wait_until

pytestmark = [pytest.mark.requires("root", "cgroup_v1"), pytest.mark.timeout(120)]

PROGRAMS = sorted(os.listdir(BIN))


def build(folder: Path, *names: str) -> list[Path]:
    done = subprocess.run(
        [sys.executable, TOP / "scripts/programs.py", folder, *names],
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every program."""
    folder = tmp_path_factory.mktemp("built")
    assert sorted(path.name for path in build(folder)) == PROGRAMS
    return folder


class Elsewhere:
    """A mount namespace in which neither the sources nor .venv are, and the cache is empty; `folder` is outside of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = f'mount -t tmpfs tmpfs "{TOP}" && mount -t tmpfs tmpfs /var/cache && echo ready && exec sleep 1000'
        self._keeper = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE)
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"ready\n"
        self._enter = ["nsenter", f"--mount=/proc/{self._keeper.pid}/ns/mnt", "--wd=/", "--"]

    def __call__(self, program: str | Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end; the environment is empty but for `env`."""
        argv = [*self._enter, str(program), *args]
        return subprocess.run(argv, capture_output=True, text=True, env=env, check=False, timeout=60)

    def start(self, program: Path, *args: str, log: Path) -> subprocess.Popen[bytes]:
        """Runs a program in the background."""
        with log.open("wb") as file:
            return subprocess.Popen([*self._enter, program, *args], stdout=file, stderr=file, env={})

    def close(self) -> None:
        """Nothing of it stays."""
        self._keeper.kill()
        self._keeper.communicate()


@pytest.fixture
def elsewhere():
    with tempfile.TemporaryDirectory(prefix="pf", dir="/tmp") as folder:
        made = Elsewhere(Path(folder))
        yield made
        made.close()


def copy(built: Path, elsewhere: Elsewhere, program: str, name: str = "") -> Path:
    """One file, alone in another folder."""
    target = elsewhere.folder / (name or program)
    shutil.copy(built / program, target)
    return target


def test_s008_s009_make_builds_them():
    if shutil.which("make") is None:
        pytest.skip("make is not here")

    def planned(*goals: str) -> str:
        return subprocess.run(
            ["make", "-n", *goals], cwd=TOP, capture_output=True, text=True, check=True
        ).stdout

    assert planned().splitlines()[-1] == ".venv/bin/python3 scripts/programs.py dist/bin"
    for name in ("containerd-shim", "containerd-shim-runc-v1", "ctr", "pyrunc"):
        assert (
            planned(f"bin/{name}").splitlines()[-1]
            == f".venv/bin/python3 scripts/programs.py dist/bin {name}"
        )


@pytest.mark.parametrize("program", PROGRAMS)
def test_s008_each_starts_from_one_file_with_an_empty_environment(program, built, elsewhere):
    file = copy(built, elsewhere, program, "any-name")
    for _ in ("unpacked", "found"):
        if program == "containerd-shim-py":  # tells no version
            done = elsewhere(file, "-h")
            assert (done.returncode, "-containerd-binary" in done.stderr) == (0, True)
        else:
            done = elsewhere(file, "-v" if "shim" in program else "--version")
            assert (done.returncode, done.stderr, __version__ in done.stdout) == (0, "", True)


def test_s008_an_upstream_name_is_the_program_that_stands_for_it(tmp_path):
    (file,) = build(tmp_path, "containerd-shim")
    assert file.name == "containerd-shim"
    done = subprocess.run(
        [file, "-h"],
        capture_output=True,
        text=True,
        env={"PYCONTAINERD_PROGRAMS": f"{tmp_path}/c"},
        check=False,
    )
    assert done.stderr.startswith(f"Usage of {file}:\n")


def test_two_builds_are_the_same_bytes(built, tmp_path):
    (file,) = build(tmp_path, "pyrunc")
    assert file.read_bytes() == (built / "pyrunc").read_bytes()


def test_the_whole_stack_runs_from_single_files(built, elsewhere):
    folder = elsewhere.folder
    rootfs = shims.make_rootfs(folder / "rootfs")
    daemon, client = (copy(built, elsewhere, name) for name in ("pycontainerd", "pyctr"))
    where = ["--root", f"{folder}/root", "--state", f"{folder}/state", "--address", f"{folder}/c.sock"]
    serving = elsewhere.start(daemon, *where, log=folder / "log")

    def ctr(*args: str) -> subprocess.CompletedProcess[str]:
        return elsewhere(client, "--address", f"{folder}/c.sock", *args)

    try:
        wait_until(lambda: ctr("version").returncode == 0, 30)
        done = ctr("run", "--rm", "--rootfs", str(rootfs), "one", "/bin/sh", "-c", "echo hi; exit 42")
        assert (done.stdout, done.returncode) == ("hi\n", 42), done.stderr
        for runtime in ("io.containerd.runc.v2", "io.containerd.runc.v1", "io.containerd.runtime.v1.linux"):
            done = ctr("run", "-d", "--runtime", runtime, "--rootfs", str(rootfs), "two", "/bin/sleep", "100")
            assert done.returncode == 0, done.stderr
            done = ctr("task", "exec", "--exec-id", "e", "two", "/bin/sh", "-c", "echo in; exit 3")
            assert (done.stdout, done.returncode) == ("in\n", 3), done.stderr
            pid = int(ctr("task", "ls").stdout.splitlines()[1].split()[1])
            shim = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            line = Path(f"/proc/{shim}/cmdline").read_text()
            assert line.startswith("/var/cache/pycontainerd/programs/"), line
            assert ctr("task", "rm", "-f", "two").returncode == 0
            assert ctr("container", "rm", "two").returncode == 0
    finally:
        serving.terminate()
        serving.wait(20)
    assert serving.returncode == 0, (folder / "log").read_text()[-2000:]


def test_pyrunc_alone_runs_a_bundle(built, elsewhere):
    folder = elsewhere.folder
    shims.make_rootfs(folder / "rootfs")
    program = copy(built, elsewhere, "pyrunc", "runc")
    assert elsewhere(program, "spec", "--bundle", str(folder)).returncode == 0
    config = (folder / "config.json").read_text().replace('"terminal": true', '"terminal": false')
    (folder / "config.json").write_text(config.replace('"sh"', '"/bin/echo", "from a file"'))
    done = elsewhere(program, "--root", f"{folder}/state", "run", "--bundle", str(folder), f"pf{os.getpid()}")
    assert (done.stdout, done.returncode) == ("from a file\n", 0), done.stderr


def test_first_runs_side_by_side_unpack_once(built, tmp_path):
    cache = tmp_path / "cache"
    environment = {"PYCONTAINERD_PROGRAMS": str(cache)}
    (tmp_path / "link").symlink_to(built / "pyrunc")
    running = [
        subprocess.Popen([program, "--version"], env=environment, stdout=subprocess.PIPE)
        for program in (built / "pyrunc", tmp_path / "link", built / "pyctr", built / "pycontainerd")
    ]
    assert [__version__.encode() in process.communicate()[0] for process in running] == [True] * 4
    (top,) = os.listdir(cache)
    assert (cache / top).stat().st_mode & 0o777 == 0o755
    assert (cache / top / "bin/pyrunc").stat().st_mode & 0o777 == 0o755


def test_what_a_killed_first_run_left_is_replaced(built, tmp_path):
    cache = tmp_path / "cache"
    environment = {"PYCONTAINERD_PROGRAMS": str(cache)}
    subprocess.run([built / "pyrunc", "--version"], env=environment, check=True, capture_output=True)
    (top,) = os.listdir(cache)
    (cache / top).rename(cache / f".part-{top}")
    (cache / f".part-{top}/bin/pyrunc").unlink()
    subprocess.run([built / "pyrunc", "--version"], env=environment, check=True, capture_output=True)
    assert os.listdir(cache) == [top]


def refused(program: Path, cache: Path) -> str:
    done = subprocess.run(
        [program, "--version"],
        env={"PYCONTAINERD_PROGRAMS": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"could not unpack itself into {cache}: " in done.stderr
    return done.stderr


def test_a_damaged_file_is_refused(built, tmp_path):
    data = bytearray((built / "pyrunc").read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "pyrunc"
    damaged.write_bytes(data)
    damaged.chmod(0o755)
    assert f"{damaged} is damaged: its archive hasn't the digest" in refused(damaged, tmp_path / "cache")
    assert os.listdir(tmp_path / "cache") == []


def test_a_cache_that_others_may_write_is_refused(built, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    assert "with mode 777" in refused(built / "pyrunc", cache)
    cache.chmod(0o755)
    os.chown(cache, 1234, 1234)
    assert "belongs to user 1234" in refused(built / "pyrunc", cache)
    (tmp_path / "link").symlink_to("/usr")
    refused(built / "pyrunc", tmp_path / "link")


def test_a_folder_that_somebody_put_in_its_place_is_not_run(built, tmp_path):
    cache, trap = tmp_path / "cache", tmp_path / "trap"
    environment = {"PYCONTAINERD_PROGRAMS": str(cache)}
    subprocess.run([built / "pyrunc", "--version"], env=environment, check=True, capture_output=True)
    (top,) = os.listdir(cache)
    (cache / top).rename(trap)
    (trap / "bin/pyrunc").write_text("print('trapped')\n")
    os.symlink(trap, cache / top)
    assert "belongs to user 0 with mode 777" in refused(built / "pyrunc", cache)
    os.unlink(cache / top)
    trap.rename(cache / top)
    os.chown(cache / top, 1234, 1234)
    assert "belongs to user 1234" in refused(built / "pyrunc", cache)


def test_a_user_without_root_has_a_cache_of_its_own(built, elsewhere):
    program = copy(built, elsewhere, "pyrunc")
    elsewhere.folder.chmod(0o777)
    home = elsewhere.folder / "home"
    home.mkdir()
    os.chown(home, 4321, 4321)
    words = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups", str(program), "--version"]
    done = elsewhere(*words, HOME=str(home), PATH="/usr/bin:/bin")
    assert (done.returncode, __version__ in done.stdout) == (0, True), done.stderr
    (top,) = os.listdir(home / ".cache/pycontainerd/programs")
    assert (home / ".cache/pycontainerd/programs" / top).stat().st_uid == 4321
