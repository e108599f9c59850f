"""Images by their public names, over TLS, on a machine where docker.io is a registry of the test's (S045, S054-S056)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from support.programs import TOP, peer

WANTED = {
    "resolved": True,
    "hello": "Hello from Docker!\n",
    "status": 42,
    "names": ["docker.io/library/busybox:latest", "docker.io/library/hello-world:latest"],
    "content left": "",
}


@pytest.mark.timeout(180)
def test_docker_io_names_pull_and_run_with_every_client_on_every_daemon(short_tmp):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    peer("docker-registry")
    done = subprocess.run(
        ["unshare", "--mount", "--net", sys.executable, "-m", "support.public_world", str(short_tmp)],
        cwd=TOP / "tests",
        env={**os.environ, "PYTHONPATH": f"{TOP}/tests:{TOP}/src"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)
    for kind in ("ours", "real"):
        for client in ("pyctr", "ctr"):
            assert results[kind][client] == WANTED, (kind, client)


def test_a_file_that_a_bare_system_lacks_is_there_without_being_written(short_tmp):
    (short_tmp / "etc").mkdir()
    (short_tmp / "etc/kept").write_text("kept")
    code = (
        "import sys; from pathlib import Path; from support.public_world import mount_over\n"
        "work, etc = Path(sys.argv[1]), Path(sys.argv[1]) / 'etc'\n"
        "for name in ('hosts', 'ssl/certs/bundle'): mount_over(work, name.replace('/', '-'), etc / name, name)\n"
        "print(*((etc / name).read_text() for name in ('kept', 'hosts', 'ssl/certs/bundle')))"
    )
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", code, str(short_tmp)],
        env={**os.environ, "PYTHONPATH": f"{TOP}/tests:{TOP}/src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "kept hosts ssl/certs/bundle\n", done.stderr
    assert os.listdir(short_tmp / "etc") == ["kept"]
