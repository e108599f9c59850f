"""A real Debian root file system as an image: pulled and run by every pair of client and daemon."""

from __future__ import annotations

import time

import pytest

from support import images
from support.screen import Screen

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def debian(registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its reference in the registry."""
    reference = f"{registry}/library/debian:latest"
    images.push(images.debian_layout(tmp_path_factory.mktemp("debian")), reference)
    return reference


@pytest.fixture(scope="module", params=["our_stack", "real_stack"])
def stack(request: pytest.FixtureRequest, debian: str):
    """Each daemon once, with the image pulled by its own client."""
    stack = request.getfixturevalue(request.param)
    client = "pyctr" if request.param == "our_stack" else "ctr"
    stack.run(client, "image", "pull", "--plain-http", debian, timeout=200)
    return stack


@pytest.fixture(params=["ctr", "pyctr"])
def client(request: pytest.FixtureRequest) -> str:
    """Whose command line."""
    return str(request.param)


def test_bash_on_a_terminal_prints_os_release_and_its_status_is_ours(stack, client, debian) -> None:
    command = ["/bin/bash", "-c", "cat /etc/os-release; exit 42"]
    argv = stack.command(client, "run", "--rm", "-t", debian, f"os-{client}", *command)
    screen = Screen(argv, stack.environment)
    try:
        screen.wait_for(r"PRETTY_NAME=\"Debian GNU/Linux")
        screen.wait_for("BUG_REPORT_URL")
        assert screen.process.wait(20) == 42
    finally:
        screen.close()


def test_create_and_start_run_the_images_files(stack, client, debian) -> None:
    id_ = f"cr-{client}"
    stack.run(client, "container", "create", debian, id_, "perl", "-e", r'print "$^V\n"')
    done = stack.run(client, "task", "start", id_)
    assert done.stdout.startswith("v5.")
    stack.run(client, "task", "rm", id_, check=False)
    stack.run(client, "container", "rm", id_)


def test_term_leaves_a_bash_running_and_kill_ends_it(stack, client, debian) -> None:
    id_ = f"d-{client}"
    stack.run(client, "run", "-d", debian, id_, "/bin/bash", "-c", "while :; do sleep 0.1; done")
    exec_ = ("task", "exec", "--exec-id", "e1", id_)
    done = stack.run(client, *exec_, "/bin/bash", "-c", "echo $BASH_VERSION; exit 7", check=False)
    assert done.stdout.startswith("5.")
    assert done.returncode == 7
    assert "memory" in stack.run(client, "task", "metrics", id_).stdout
    # PID 1 of a pid namespace has no default action for TERM, and bash sets none in a script.
    stack.run(client, "task", "kill", id_)
    time.sleep(0.5)
    assert stack.run(client, *exec_, "/bin/true").returncode == 0
    stack.run(client, "task", "kill", "-s", "KILL", id_)
    deadline = time.monotonic() + 10
    while "STOPPED" not in stack.run(client, "task", "ls").stdout.partition(id_)[2].partition("\n")[0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    removed = stack.run(client, "task", "rm", id_)
    assert f"task {id_} exit with non-zero exit code 137" in removed.stderr
    stack.run(client, "container", "rm", id_)
