"""A container that may trace looks into every process that joins it (R04, CVE-2016-9962).

While many `exec`s join, a loop of the container's tries the root, the working directory and every descriptor of each process that it
sees, and looks for a file of the host below them: that of a process which is still on its way would lead out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

# Shell builtins alone: thousands of looks a second, and nothing of the loop's own among the processes.
_LOOP = """
while [ ! -e /tmp/end ]; do
  for process in /proc/[0-9]*; do
    for way in $process/root $process/cwd $process/fd/[0-9]*; do
      [ ! -e $way$SECRET ] || echo "$way leads to the host's root"
      [ ! -e $way/1/root$SECRET ] || echo "$way leads to the host's processes"
      [ ! -e $way/../../../../../../..$SECRET ] || echo "$way leads to a folder of the host"
    done
  done
  [ -e /tmp/looked ] || : > /tmp/looked
done
"""


@pytest.fixture
def spied(runtime, bundle, short_tmp):
    """A container in which the loop runs, and the file of what it found."""
    secret = short_tmp / "secret"
    secret.write_text("SECRET")
    bundle.capabilities("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE")
    bundle.process["env"].append(f"SECRET={secret}")
    bundle.mount("/tmp", "tmpfs", "tmpfs")
    runtime.start_detached(bundle.sh(_LOOP).build())
    yield short_tmp / "detached.log"
    runtime.ok("exec", "c", "touch", "/tmp/end")


def test_no_exec_leads_out(runtime, spied, amount):
    while runtime("exec", "c", "test", "-e", "/tmp/looked").code != 0:
        pass
    for _ in range(amount(20, 1000)):
        runtime.ok("exec", "--user", "1000", "c", "true")
        assert spied.read_text() == ""


def test_the_loop_sees_a_way_out_where_there_is_one(runtime, bundle, spied, short_tmp):
    """Proves the test above: with a folder of the host for its working directory init itself is found."""
    assert "leads to" not in spied.read_text()
    bundle.mount("/mnt", "bind", "/", "rbind", "ro")
    bundle.linux["namespaces"] = [
        {"type": "pid", "path": f"/proc/{runtime.pid()}/ns/pid"},
        *(item for item in bundle.linux["namespaces"] if item["type"] != "pid"),
    ]
    bundle.process["cwd"] = "/mnt"
    bundle.linux["cgroupsPath"] += "-second"
    path = Path(bundle.args("sleep", "100").build())
    runtime.start_detached(path, "second")
    while "leads to" not in (text := spied.read_text()):
        assert runtime.state("second")["status"] == "running", text
