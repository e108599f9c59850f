"""Command lines in ps: with every capability, and without CAP_SYS_RESOURCE."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[4] / "src"
CODE = """
import os, sys
sys.path.insert(0, {src!r})
from pycontainerd.lib.linux import prctl, title
if {drop}:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    prctl.set_dumpable(True)  # as any process that did not change its user is
    assert "CapEff:\\t0000000000000000" in open("/proc/self/status").read()
title.set_name("a-name-that-is-too-long")
title.set_command_line({argv!r})
print(open("/proc/self/cmdline", "rb").read())
print(open("/proc/self/comm").read().strip())
print(os.environ["MARK"] in open("/proc/self/environ").read())
print(bytearray(64 << 20)[:1])  # the heap still works
"""


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("argv", [["/usr/bin/shim", "-id", "x"], ["s", "", "é" * 3000]])
def test_command_line_is_exactly_what_was_set(drop: bool, argv: list[str]) -> None:
    code = CODE.format(src=str(SRC), drop=drop and os.geteuid() == 0, argv=argv)
    done = subprocess.run(
        ["/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable, "-IS", "-c", code],
        capture_output=True,
        text=True,
        env={"MARK": "here"},
        check=False,
    )
    assert done.stderr == ""
    line, comm, environ, heap = done.stdout.splitlines()
    assert line == repr(b"".join(word.encode() + b"\0" for word in argv))
    assert (comm, environ, heap) == ("a-name-that-is-", "True", "bytearray(b'\\x00')")
