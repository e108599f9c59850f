"""The command lines of an OCI runtime, as the stock shim writes them, and what a failure is called."""

import os
import re

import pytest

from pycontainerd.shim.future import spawn
from pycontainerd.shim.loop import Loop
from pycontainerd.shim.options import Options
from pycontainerd.shim.reaper import Reaper
from pycontainerd.shim.runc import Runc, RuntimeFailed, last_error

ROOT = "/run/containerd/runc/default"


class Recorder:
    """A runtime that writes down how it was called and leaves pid files."""

    def __init__(self, folder, body: str = "") -> None:
        self.folder = folder
        self.bundle = folder / "b"
        self.bundle.mkdir()
        self.program = folder / "runtime"
        self.program.write_text(
            f'#!/bin/sh\necho "$*" >> {folder}/argv\n'
            f'while [ $# -gt 0 ]; do if [ "$1" = --pid-file ]; then printf 123 > $2; fi; '
            f'if [ "$1" = ps ]; then echo "[7,8]"; fi; if [ "$1" = update ]; then cat > {folder}/stdin; fi; shift; done\n{body}\n'
        )
        self.program.chmod(0o755)
        self.loop = Loop()
        self.reaper = Reaper(lambda exited: None)
        self.loop.on_signal(17, self.reaper.reap)

    def runc(self, **options) -> Runc:
        given = Options({"binary_name": str(self.program), **options})
        return Runc(self.loop, self.reaper, str(self.bundle), ROOT, given)

    def do(self, coroutine):
        outcome = spawn(coroutine)
        outcome.when_done(lambda _: self.loop.stop())
        if not outcome.done:
            self.loop.later(10, self.loop.stop)
            self.loop.run()
        return outcome.result()

    def argv(self) -> str:
        """The last command line."""
        return (self.folder / "argv").read_text().splitlines()[-1]

    def head(self) -> str:
        return f"--root {ROOT} --log {self.bundle}/log.json --log-format json"


@pytest.fixture
def recorder(tmp_path):
    made = Recorder(tmp_path)
    yield made
    made.loop.close()


def streams() -> list[int]:
    return [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)] * 3


def test_s083_create(recorder) -> None:
    fds = streams()
    assert recorder.do(recorder.runc().create("u67", fds, "")) == 123
    os.close(fds[0])
    bundle = recorder.bundle
    assert recorder.argv() == f"{recorder.head()} create --bundle {bundle} --pid-file {bundle}/init.pid u67"
    recorder.do(recorder.runc().create("u67", (), "/tmp/pty415594316/pty.sock"))
    assert recorder.argv().endswith("/init.pid --console-socket /tmp/pty415594316/pty.sock u67")


def test_options_are_flags(recorder) -> None:
    runc = recorder.runc(systemd_cgroup=True, no_pivot_root=True, no_new_keyring=True)
    recorder.do(runc.create("c", (), ""))
    assert " --log-format json --systemd-cgroup create --bundle " in recorder.argv()
    assert recorder.argv().endswith("/init.pid --no-pivot --no-new-keyring c")


def test_exec(recorder) -> None:
    assert recorder.do(recorder.runc().exec("c", "e1", b'{"args":["x"]}', (), "")) == 123
    found = re.search(r" exec --process (/\S+/runc-process\d+) --detach --pid-file (\S+) c$", recorder.argv())
    assert found
    assert found[2] == f"{recorder.bundle}/e1.pid"
    assert not os.path.exists(found[1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r: r.start("c"), "start c"),
        (lambda r: r.kill("c", 15, False), "kill c 15"),
        (lambda r: r.kill("c", 9, True), "kill --all c 9"),
        (lambda r: r.delete("c"), "delete c"),
        (lambda r: r.delete("c", force=True), "delete --force c"),
        (lambda r: r.pause("c"), "pause c"),
        (lambda r: r.resume("c"), "resume c"),
    ],
)
def test_plain_verbs(recorder, call, words) -> None:
    recorder.do(call(recorder.runc()))
    assert recorder.argv() == f"{recorder.head()} {words}"


def test_ps_and_update(recorder) -> None:
    assert recorder.do(recorder.runc().processes("c")) == [7, 8]
    assert recorder.argv().endswith(" ps --format json c")
    recorder.do(recorder.runc().update("c", b'{"memory":{}}'))
    assert recorder.argv().endswith(" update --resources=- c")
    assert (recorder.folder / "stdin").read_bytes() == b'{"memory":{}}'


def test_s086_the_last_error_line_is_what_the_runtime_said(tmp_path) -> None:
    log = '{"level":"error","msg":"first"}\\n{"level":"warning","msg":"no"}\\n{"level":"error","msg":" second "}'
    recorder = Recorder(tmp_path, f"printf '{log}\\n' > {tmp_path}/b/log.json; echo noise; exit 1")
    with pytest.raises(RuntimeFailed) as caught:
        recorder.do(recorder.runc().start("c"))
    recorder.loop.close()
    assert str(caught.value.in_words("OCI runtime start failed")) == "OCI runtime start failed: second"
    assert str(caught.value).endswith("runtime did not terminate successfully: exit status 1: noise\n")
    assert last_error(f"{tmp_path}/b/log.json") == "second"


def test_missing_runtime_says_so(recorder) -> None:
    with pytest.raises(RuntimeFailed) as caught:
        recorder.do(recorder.runc(binary_name="no-such-runtime").start("c"))
    text = str(caught.value.in_words("OCI runtime create failed"))
    assert text == (
        f"OCI runtime create failed: unable to retrieve OCI runtime error (open {recorder.bundle}/log.json: "
        'no such file or directory): exec: "no-such-runtime": executable file not found in $PATH'
    )
