"""Settings and flags."""

from __future__ import annotations

import tomllib

import pytest

from pycontainerd.daemon import config, config_file, flags
from pycontainerd.lib.errdefs import InvalidArgument


def load(tmp_path, text: str) -> config.Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return config.load(str(path), required=True)


def test_plugin_keys_of_versions_1_2_and_4_mean_the_same(tmp_path):
    one = load(tmp_path, '[plugins.scheduler]\npause_threshold = 0.5\n[grpc]\naddress = "/a"\n')
    two = load(
        tmp_path,
        'version = 2\n[plugins."io.containerd.gc.v1.scheduler"]\npause_threshold = 0.5\n[grpc]\naddress = "/a"\n',
    )
    four = load(
        tmp_path,
        'version = 4\n[plugins."io.containerd.gc.v1.scheduler"]\npause_threshold = 0.5\n'
        '[plugins."io.containerd.server.v1.grpc"]\naddress = "/a"\n',
    )
    assert config.dump(one) == config.dump(two) == config.dump(four)
    assert one.warnings == two.warnings == four.warnings == []
    assert one.plugins[config.GC]["pause_threshold"] == 0.5
    assert one.ttrpc_address == "/a.ttrpc"


def test_unknown_keys_warn(tmp_path):
    loaded = load(
        tmp_path,
        'version = 2\nwhat = 1\n[grpc]\nnope = 1\n[plugins."io.containerd.grpc.v1.cri"]\nx = 1\n'
        '[plugins."io.containerd.gc.v1.scheduler"]\nx = 1\n[timeouts]\n"x.y" = "1s"\n',
    )
    assert len(loaded.warnings) == 5


@pytest.mark.parametrize(
    "text",
    [
        "version = 5",
        "root = 1",
        'version = 2\n[plugins."io.containerd.gc.v1.scheduler"]\ndeletion_threshold = "x"',
        '[timeouts]\n"io.containerd.timeout.shim.load" = "soon"',
        "not toml",
        "imports = 3",
    ],
)
def test_bad_files_are_refused(tmp_path, text):
    with pytest.raises(InvalidArgument):
        load(tmp_path, text)


def test_imports_are_merged_and_may_circle(tmp_path):
    (tmp_path / "extra.toml").write_text(
        'version = 2\nimports = ["config.toml"]\ndisabled_plugins = ["io.containerd.b.v1.x"]\nstate = "/s"\n'
    )
    loaded = load(
        tmp_path,
        'version = 2\nimports = ["extra*.toml"]\ndisabled_plugins = ["io.containerd.a.v1.x"]\nroot = "/r"\n',
    )
    assert (loaded.root, loaded.state, loaded.disabled_plugins) == (
        "/r",
        "/s",
        ["io.containerd.a.v1.x", "io.containerd.b.v1.x"],
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("100ms", 0.1), ("1m30s", 90), ("1.5h", 5400), ("2us", 2e-6), ("0", 0)]
)
def test_go_durations(text, seconds):
    assert config.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["1", "s", "1x", "1.2.3s", "-1s", "1s2"])
def test_other_durations_are_refused(text):
    with pytest.raises(InvalidArgument):
        config.parse_duration(text)


TABLE = (flags.Flag(("address", "a"), ""), flags.Flag(("version", "v"), "", takes_value=False))


@pytest.mark.parametrize(
    "argv",
    [["-address", "X", "rest"], ["--address=X", "rest"], ["-a=X", "rest"], ["-a", "X", "--", "rest"]],
)
def test_go_flag_syntax(argv):
    assert flags.parse(argv, TABLE) == ({"address": "X"}, ["rest"])


@pytest.mark.parametrize("argv", [["-x"], ["-address"], ["--nope=1"]])
def test_bad_flags_are_refused(argv):
    with pytest.raises(InvalidArgument):
        flags.parse(argv, TABLE)


def test_an_import_that_is_not_there_is_an_error_unless_it_is_a_pattern(tmp_path):
    with pytest.raises(InvalidArgument, match=r"open .*/absent\.toml: no such file or directory"):
        load(tmp_path, 'version = 2\nimports = ["absent.toml"]\n')
    assert load(tmp_path, 'version = 2\nimports = ["absent*.toml"]\n').warnings == []


def test_imports_replace_plugins_whole_and_say_nothing_by_empty_values(tmp_path):
    """The same two files through Debian's containerd: tests/interop/test_daemon_config.py."""
    (tmp_path / "extra.toml").write_text(
        'version = 2\nroot = "/r2"\nstate = ""\noom_score = 0\n'
        '[plugins."io.containerd.gc.v1.scheduler"]\ndeletion_threshold = 5\n[grpc]\naddress = "/b"\n'
    )
    loaded = load(
        tmp_path,
        'version = 2\nimports = ["extra.toml"]\nroot = "/r"\nstate = "/s"\noom_score = 4\n'
        '[plugins."io.containerd.gc.v1.scheduler"]\nmutation_threshold = 7\n[grpc]\naddress = "/a"\nuid = 5\n',
    )
    assert (loaded.root, loaded.state, loaded.oom_score) == ("/r2", "/s", 4)
    assert (loaded.grpc.address, loaded.grpc.uid) == ("/b", 5)
    scheduler = loaded.plugins[config.GC]
    assert (scheduler["deletion_threshold"], scheduler["mutation_threshold"]) == (5, 100)
    assert loaded.imports == [f"{tmp_path}/config.toml", f"{tmp_path}/extra.toml"]


def test_every_version_migrates_to_the_same_document_and_keeps_what_nobody_knows(tmp_path):
    texts = (
        (
            '[plugins.scheduler]\npause_threshold = 0.5\n[plugins.restart]\ninterval = "1s"\n'
            '[grpc]\naddress = "/a"\ntcp_address = "127.0.0.1:1"\n[plugins.x]\ny = [{a = 1.5}, {b = true}]\n'
        ),
        (
            'version = 2\n[plugins."io.containerd.gc.v1.scheduler"]\npause_threshold = 0.5\n'
            '[plugins."io.containerd.internal.v1.restart"]\ninterval = "1s"\n'
            '[grpc]\naddress = "/a"\ntcp_address = "127.0.0.1:1"\n[plugins.x]\ny = [{a = 1.5}, {b = true}]\n'
        ),
        (
            'version = 4\n[plugins."io.containerd.gc.v1.scheduler"]\npause_threshold = 0.5\n'
            '[plugins."io.containerd.monitor.container.v1.restart"]\ninterval = "1s"\n'
            '[plugins."io.containerd.server.v1.grpc"]\naddress = "/a"\n'
            '[plugins."io.containerd.server.v1.grpc-tcp"]\naddress = "127.0.0.1:1"\n'
            "[plugins.x]\ny = [{a = 1.5}, {b = true}]\n"
        ),
    )
    documents = []
    for text in texts:
        path = tmp_path / "old.toml"
        path.write_text(text)
        migrated = config_file.format_toml(config_file.read(str(path), imports=False))
        documents.append(tomllib.loads(migrated))
    assert documents[0] == documents[1] == documents[2]
    assert documents[0]["version"] == 3
    assert documents[0]["plugins"]["x"] == {"y": [{"a": 1.5}, {"b": True}]}


def test_proxy_plugins_need_a_type_and_an_address(tmp_path):
    loaded = load(tmp_path, 'version = 2\n[proxy_plugins.s]\ntype = "snapshot"\naddress = "/s.sock"\n')
    assert loaded.proxy_plugins["s"].address == "/s.sock"
    assert tomllib.loads(config.dump(loaded))["proxy_plugins"]["s"]["type"] == "snapshot"
    with pytest.raises(InvalidArgument, match="needs address"):
        load(tmp_path, 'version = 2\n[proxy_plugins.s]\ntype = "snapshot"\n')


def test_drop_ins_count_without_a_file_beside_them_and_in_their_order(tmp_path):
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "20-b.toml").write_text('version = 3\nroot = "/b"\n[debug]\n  level = "warn"\n')
    (folder / "10-a.toml").write_text('version = 2\nroot = "/a"\nstate = "/s"\n')
    (folder / "ignored.txt").write_text("nonsense")
    loaded = config.load(f"{tmp_path}/config.toml", required=False)
    assert (loaded.root, loaded.state, loaded.debug.level) == ("/b", "/s", "warn")
    assert loaded.imports == [f"{folder}/10-a.toml", f"{folder}/20-b.toml"]
    # A file says itself what it imports.
    (tmp_path / "config.toml").write_text('version = 3\nstate = "/mine"\n')
    loaded = config.load(f"{tmp_path}/config.toml", required=False)
    assert (loaded.root, loaded.state) == (config.DEFAULT_ROOT, "/mine")
    (tmp_path / "config.toml").write_text('version = 3\nimports = ["conf.d/*.toml"]\n')
    assert config.load(f"{tmp_path}/config.toml", required=False).root == "/b"
