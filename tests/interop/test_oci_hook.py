"""`oci-hook` of the real daemon and of ours: the same arguments, the same refusals."""

from __future__ import annotations

import json
import subprocess

import pytest

from support.programs import ours, peer, peer_environment

STATE = {
    "ociVersion": "1.0.2",
    "id": "c1",
    "status": "created",
    "pid": 77,
    "annotations": {"a": "b", "with space": "c d"},
}


@pytest.fixture(params=["real", "ours"])
def hook(request, tmp_path):
    program = peer("containerd") if request.param == "real" else ours("pycontainerd")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text('{"root": {"path": "rootfs"}}')

    def run(*arguments: str, state: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "oci-hook", *arguments],
            input=json.dumps({**STATE, "bundle": str(bundle)}) if state is None else state,
            capture_output=True,
            text=True,
            env=peer_environment(),
            timeout=30,
            check=False,
        )

    run.bundle = bundle
    run.real = request.param == "real"
    return run


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("{{id}}", "c1"),
        ("{{pid}}", "77"),
        ("{{status}}", "created"),
        ("{{bundle}}", "BUNDLE"),
        ("{{rootfs}}", "BUNDLE/rootfs"),
        ("{{ id }}-{{pid}}", "c1-77"),
        ('{{annotation "a"}}{{annotation `with space`}}', "bc d"),
        ('{{annotation "none"}}|', "|"),
        ('{{"literal"}}', "literal"),
        ("plain } text {", "plain } text {"),
    ],
)
def test_arguments_are_filled_in(hook, argument, expected):
    done = hook("/bin/echo", argument)
    assert (done.returncode, done.stdout) == (0, expected.replace("BUNDLE", str(hook.bundle)) + "\n")


def test_an_absolute_root_and_none(hook):
    (hook.bundle / "config.json").write_text('{"root": {"path": "/abs"}}')
    assert hook("/bin/echo", "{{rootfs}}").stdout == "/abs\n"
    (hook.bundle / "config.json").write_text("{}")
    done = hook("/bin/echo", "{{rootfs}}")
    if hook.real and "nil pointer dereference" in done.stderr:
        return  # containerd 1.7 takes a root for granted
    assert done.stdout == f"{hook.bundle}\n"


def test_the_program_takes_this_ones_place(hook):
    assert hook("/bin/sh", "-c", "exit 7").returncode == 7
    assert hook("/bin/sh", "-c", "echo $0 $1", "a", "{{id}}").stdout == "a c1\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("/bin/echo", "{{ns_path}}"), 'function "ns_path" not defined'),
        (("/bin/echo", "{{annotation}}"), "wrong number of args for annotation: want 1 got 0"),
        (("/bin/echo", "{{id"), "unclosed action"),
        (("/nonexistent",), "no such file or directory"),
        (("echo",), "no such file or directory"),
        (("-x", "/bin/echo"), "flag provided but not defined: -x"),
    ],
)
def test_what_cannot_be_run_is_refused(hook, arguments, words):
    done = hook(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stdout == "" or "USAGE" in done.stdout


def test_a_state_that_is_none_and_a_bundle_that_is_gone_are_refused(hook):
    assert hook("/bin/echo", "x", state="nojson").returncode == 1
    done = hook("/bin/echo", "x", state='{"bundle": "/nonexistent"}')
    assert (done.returncode, done.stdout) == (1, "")
    assert "open /nonexistent/config.json: no such file or directory" in done.stderr


def test_go_templates_beyond_the_functions_are_refused(tmp_path):
    """The real one has all of text/template; ours says that it hasn't."""
    (tmp_path / "config.json").write_text("{}")
    done = subprocess.run(
        [ours("pycontainerd"), "oci-hook", "/bin/echo", "{{if true}}x{{end}}"],
        input=json.dumps({**STATE, "bundle": str(tmp_path)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "{{if true}} is not supported" in done.stderr
