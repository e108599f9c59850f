"""buildah's RUN steps on runc and on pyrunc, by argv (`--isolation oci --runtime`)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from support.machine import RUNTIMES
from support.podman import Podman

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
STEPS = """\
FROM docker.io/library/busybox:latest
ENV A=b
RUN echo $A > /made && id -u >> /made
USER web
WORKDIR /home/web
RUN (touch /root/x; pwd; id -u) > /tmp/as-web 2>&1; true
USER root
RUN --mount=type=tmpfs,target=/mnt/t touch /mnt/t/x && chown 33:33 /made && chmod 4755 /made
CMD ["cat", "/made"]
"""


@pytest.fixture(scope="module", params=["runc", "pyrunc"])
def engine(request):
    folder = Path(tempfile.mkdtemp(prefix="pc", dir="/tmp"))
    made = Podman(folder, request.param)
    yield made
    made.close()
    shutil.rmtree(folder)  # noqa: TID251 - a folder of the test's own


def build(engine, text, *flags):
    context = engine.machine.folder / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(text)
    runtime = ("--isolation", "oci", "--runtime", RUNTIMES[engine.runtime], "--network", "none", *LIMITS)
    return engine.buildah("bud", *runtime, *flags, str(context))


def test_run_steps_make_an_image_that_runs(engine):
    done = build(engine, STEPS, "-t", "built")
    assert done.returncode == 0, done
    assert engine.run("built").stdout == "b\n0\n"
    done = engine.run("built", "sh", "-c", "stat -c '%u:%g %a' /made; cat /tmp/as-web; ls /mnt/t 2>/dev/null")
    assert done.stdout.split("\n")[0] == "33:33 4755", done
    assert "Permission denied" in done.stdout
    assert done.stdout.split()[-2:] == ["/home/web", "1000"]


def test_a_failing_step_ends_the_build_with_its_status(engine):
    done = build(engine, "FROM busybox\nRUN echo before; exit 9\n")
    assert done.returncode == 9, done
    assert "before" in done.stdout
    assert "exit status 9" in done.stderr


def test_a_step_that_cannot_be_run_names_the_program(engine):
    done = build(engine, 'FROM busybox\nRUN ["nosuch"]\n')
    assert done.returncode != 0
    # Twice quoted: buildah shows the runtime's log line as it is.
    assert "executable file not found in $PATH" in done.stderr
    assert "nosuch" in done.stderr.partition("executable file")[0].rpartition("exec:")[2]


def test_limits_of_a_build_are_in_the_cgroup(engine):
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true"
    done = build(engine, f"FROM busybox\nRUN {script}\n", "--memory", "64m", "--memory-swap", "64m")
    assert done.returncode == 0, done
    assert "67108864" in done.stdout.split()


def test_run_in_a_working_container(engine):
    name = engine.buildah("from", *LIMITS, "busybox").stdout.strip()
    flags = ("--isolation", "oci", "--runtime", RUNTIMES[engine.runtime], "--network", "none")
    done = engine.buildah("run", *flags, name, "--", "sh", "-c", "echo said; exit 3")
    assert done.returncode == 3, done
    assert done.stdout == "said\n"
    assert engine.buildah("rm", name).returncode == 0
