"""Configuration files: what the real daemon makes of them, and ours alike."""

from __future__ import annotations

import subprocess
import tomllib

import pytest

from support.programs import ours, peer, peer_environment

MAIN = """version = 2
imports = ["extra.toml", "none*.toml"]
root = "/r"
state = "/s"
oom_score = 4
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "/a"
uid = 5
tcp_address = "127.0.0.1:1"
[debug]
level = "debug"
[plugins."io.containerd.gc.v1.scheduler"]
mutation_threshold = 7
[proxy_plugins.x]
type = "content"
address = "/x"
[proxy_plugins.y]
type = "content"
address = "/y"
"""
EXTRA = """version = 2
root = "/r2"
state = ""
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "/b"
[metrics]
address = "127.0.0.1:2"
grpc_histogram = true
[plugins."io.containerd.gc.v1.scheduler"]
deletion_threshold = 5
[proxy_plugins.x]
type = "snapshot"
address = "/q"
"""


@pytest.fixture(params=["real", "ours"])
def run(request, tmp_path):
    program = peer("containerd") if request.param == "real" else ours("pycontainerd")

    def dump(text: str, *command: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "config.toml").write_text(text)
        argv = [program, "--config", f"{tmp_path}/config.toml", *(command or ("config", "dump"))]
        return subprocess.run(
            argv, capture_output=True, text=True, env=peer_environment(), timeout=30, check=False
        )

    return dump


def test_imports_merge_alike(run, tmp_path):
    (tmp_path / "extra.toml").write_text(EXTRA)
    done = run(MAIN)
    assert done.returncode == 0, done.stderr
    document = tomllib.loads(done.stdout)
    assert (document["root"], document["state"], document["oom_score"]) == ("/r2", "/s", 4)
    assert document["disabled_plugins"] == [
        "io.containerd.grpc.v1.cri",
        "io.containerd.snapshotter.v1.devmapper",
    ]
    # The real one walks a Go map: their order is random.
    assert sorted(document["imports"]) == [f"{tmp_path}/config.toml", f"{tmp_path}/extra.toml"]
    grpc = document["grpc"]
    assert (grpc["address"], grpc["uid"], grpc["tcp_address"]) == ("/b", 5, "127.0.0.1:1")
    assert grpc["max_send_message_size"] == grpc["max_recv_message_size"] == 16 << 20
    assert document["metrics"] == {"address": "127.0.0.1:2", "grpc_histogram": True}
    assert document["debug"]["level"] == "debug"
    scheduler = document["plugins"]["io.containerd.gc.v1.scheduler"]
    assert (scheduler["deletion_threshold"], scheduler["mutation_threshold"]) == (5, 100)
    proxies = {name: (p["type"], p["address"]) for name, p in document["proxy_plugins"].items()}
    assert proxies == {"x": ("snapshot", "/q"), "y": ("content", "/y")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('version = 2\nimports = ["absent.toml"]\n', "absent.toml: no such file or directory"),
        (
            'version = 2\ndisabled_plugins = ["x"]\n',
            'invalid disabled plugin URI "x" expect io.containerd.x.vx',
        ),
        (
            'version = 2\nrequired_plugins = ["x"]\n',
            'invalid required plugin URI "x" expect io.containerd.x.vx',
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_alike(run, text, words):
    done = run(text)
    assert done.returncode == 1
    assert words in done.stderr


def test_one_folder_for_root_and_state_is_refused_alike(run):
    done = run('version = 2\nroot = "/nowhere"\nstate = "/nowhere"\n', "--log-level", "error")
    assert done.returncode == 1
    assert "root and state must be different paths" in done.stderr


def test_migrate_leaves_imports_alone_and_the_result_means_the_same(tmp_path):
    """`config migrate` came with containerd 2: no Debian peer has it."""
    (tmp_path / "extra.toml").write_text(EXTRA)
    old = tmp_path / "config.toml"
    old.write_text(MAIN)
    command = [ours("pycontainerd"), "--config", str(old), "config"]
    migrated = subprocess.run([*command, "migrate"], capture_output=True, text=True, check=True).stdout
    assert tomllib.loads(migrated) == {**tomllib.loads(MAIN), "version": 3}
    before = subprocess.run([*command, "dump"], capture_output=True, text=True, check=True).stdout
    old.write_text(migrated)
    assert subprocess.run([*command, "dump"], capture_output=True, text=True, check=True).stdout == before
