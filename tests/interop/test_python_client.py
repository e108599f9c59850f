"""The Python client on our daemon, on ours in this very process and on the real one; and every example of docs/python-client.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pycontainerd.client.objects.events import Events
from pycontainerd.lib.errdefs import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]

TOP = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (TOP / "docs/python-client.md").read_text(), re.DOTALL)
# What each example prints, as a pattern.
PRINTED = (
    r"(\d+/\d+ blobs, \d+/\d+ bytes\n)+hello\n ended with 0\n",
    r"\d+ running\nsleeper IMAGE running\n",
    r"b'got a line\\n' 3\npaused\n\[\d+\]\n137\n",
    r"/tasks/create short\n/tasks/start short\n/tasks/exit short\n/tasks/delete short\n",
    r"uid=1000(\(\w+\))? gid=1000(\(\w+\))? groups=.*1000.*\n\n",
    r"hello\n\n",
    r"container \"nobody\" in namespace \"default\": not found\n.*/nowhere.sock.*\n",
)


@pytest.fixture(scope="module", params=["our", "inside", "real"])
def stack(request):
    return request.getfixturevalue(f"{request.param}_stack")


@pytest.fixture
def containerd(stack, busybox):
    with stack.client() as containerd:
        containerd.images.pull(busybox)
        yield containerd
        assert [container.id for container in containerd.containers.list()] == []
        assert stack.ctr("snapshot", "ls").stdout.count("Active") == 0


def test_there_is_a_line_for_each_example():
    assert len(EXAMPLES) == len(PRINTED)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_page_does_what_the_page_says(stack, busybox, tmp_path, short_tmp, number):
    code = EXAMPLES[number].replace("docker.io/library/busybox:latest", busybox)
    code = code.replace('"busybox"', f'"{busybox}"').replace("/tmp/sleeper.log", f"{tmp_path}/sleeper.log")
    code = code.replace("/srv/demo/", f"{short_tmp}/")
    stack.ctr("image", "pull", busybox)
    environment = {**os.environ, "PYTHONPATH": str(TOP / "src"), "CONTAINERD_ADDRESS": stack.address}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(PRINTED[number].replace("IMAGE", re.escape(busybox)), done.stdout), done.stdout
    assert stack.ctr("container", "ls", "-q").stdout == ""


def test_more_output_and_input_than_a_pipe_holds_comes_whole(containerd, busybox):
    data = os.urandom(1 << 20)
    with containerd.run(busybox, ["cat"]) as task:
        output, errors = task.communicate(data, timeout_s=30)
    assert (output == data, errors, task.exit_code) == (True, b"", 0)


def test_streams_are_files(containerd, busybox):
    with containerd.run(busybox, ["sh", "-c", "while read l; do echo =$l; done; echo end >&2"]) as task:
        task.stdin.write(b"one\n")
        assert task.stdout.readline() == b"=one\n"
        task.stdin.write(b"two\n")
        assert task.stdout.readline() == b"=two\n"
        assert task.exit_code is None
        task.close_stdin()
        assert task.stderr.read(100) == b"end\n"
        assert task.wait(timeout_s=10) == 0


def test_a_terminal_has_a_size_and_one_stream(containerd, busybox):
    with containerd.run(busybox, ["sh", "-c", "read l; stty size"], terminal=True) as task:
        task.resize(80, 25)
        output, errors = task.communicate(b"\n", timeout_s=10)
    assert (output.split()[-2:], errors) == ([b"25", b"80"], b"")


def test_a_task_that_still_runs_says_so_and_ends_with_its_block(containerd, busybox, stack):
    with containerd.run(busybox, ["sleep", "1000"], id="long", pipes=False) as task:
        with pytest.raises(DeadlineExceeded):
            task.wait(timeout_s=0.1)
        with pytest.raises(FailedPrecondition, match="task"):
            containerd.containers.get("long").delete()
        with pytest.raises(AlreadyExists):
            containerd.containers.create(busybox, id="long")
    assert task.exit_code == 137
    assert "long" not in stack.ctr("task", "ls").stdout


def test_who_deletes_a_container_by_force_removes_its_fifos_and_no_other_file(containerd, busybox, tmp_path):
    container = containerd.containers.create(busybox, ["sleep", "1000"], id="left")
    task = container.start()
    folder = Path(os.readlink(f"/proc/self/fd/{task.stdout.fileno()}")).parent
    task.close()
    assert folder.is_dir()
    containerd.containers.get("left").delete(force=True)
    assert not folder.exists()
    log = tmp_path / "log"
    container = containerd.containers.create(busybox, ["echo", "logged"], id="left")
    container.start(log=str(log)).wait(timeout_s=10)
    container.delete(force=True)
    assert log.read_bytes() == b"logged\n"


def test_a_failed_start_leaves_nothing(containerd, busybox):
    with pytest.raises(Exception, match="nosuchprogram"):
        containerd.run(busybox, ["nosuchprogram"])
    with pytest.raises(NotFound, match="nosuchuser"):
        containerd.run(busybox, ["true"], user="nosuchuser")
    with pytest.raises(InvalidArgument):
        containerd.run(busybox, ["true"], id="bad..id")


def test_a_task_that_cannot_be_removed_still_takes_its_container_along(containerd, busybox):
    class Once:
        """The task's process, whose first delete fails."""

        def __init__(self, process):
            self._process = process

        def __getattr__(self, name):
            return getattr(self._process, name)

        def delete(self):
            raise Unavailable("not now")

    with (
        pytest.raises(Unavailable, match="not now"),
        containerd.run(busybox, ["sleep", "1000"], id="kept") as task,
    ):
        task._process = Once(task._process)
    assert task.stdout.closed
    with pytest.raises(NotFound):
        containerd.containers.get("kept")


def test_a_subscription_that_fails_closes_its_connection():
    class Daemon:
        """Takes subscriptions and answers nothing else."""

        closed = False

        def stream(self, *_):
            return None

        def call(self, *_):
            raise Unavailable("gone")

        def close(self):
            self.closed = True

    daemon = Daemon()
    with pytest.raises(Unavailable):
        Events(daemon, ())
    assert daemon.closed


def test_an_exec_that_cannot_start_leaves_the_task_alone(containerd, busybox):
    with containerd.run(busybox, ["sleep", "1000"]) as task:
        with pytest.raises(Exception, match="nosuchprogram"):
            task.exec(["nosuchprogram"])
        with task.exec(["sleep", "1000"]) as process:
            process.kill()
            assert process.wait(timeout_s=10) == 143
        assert task.status == "running"


def test_images_are_named_listed_and_removed(containerd, busybox, stack):
    seen = []
    image = containerd.images.pull(busybox, progress=seen.append, labels={"a": "b"})
    assert (image.name, image.labels, image.digest[:7]) == (busybox, {"a": "b"}, "sha256:")
    assert seen[-1].blobs_done == seen[-1].blobs > 2
    assert seen[-1].bytes_done == seen[-1].bytes_total == image.size()
    assert [found.name for found in containerd.images.list(f"name=={busybox}")] == [busybox]
    stack.ctr("image", "tag", "--force", busybox, "docker.io/library/tagged:latest")
    stack.ctr("image", "tag", "--force", busybox, "tagged")
    for name in ("tagged", "docker.io/library/tagged:latest"):
        assert containerd.images.get("tagged").name == name
        containerd.images.get(name).remove()
    image.remove()
    for name in (busybox, "tagged", "No Reference"):
        with pytest.raises(NotFound):
            containerd.images.get(name)
    with pytest.raises(InvalidArgument):
        containerd.images.pull("No Reference")
    with pytest.raises(NotFound):
        containerd.images.pull(busybox.replace("busybox", "nosuchimage"))
    assert busybox not in stack.ctr("image", "ls", "-q").stdout


def test_a_container_is_found_again_and_labelled(containerd, busybox):
    with containerd.containers.create(busybox, ["true"], id="found", labels={"a": "b"}, hostname="h") as made:
        assert made.spec["hostname"] == "h"
        found = containerd.containers.get("found")
        found.set_labels({"a": "", "c": "d"})
        assert {key: found.labels.get(key) for key in "ac"} == {"a": None, "c": "d"}
        with pytest.raises(NotFound):
            found.task()
    with pytest.raises(NotFound):
        containerd.containers.get("found")
