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
