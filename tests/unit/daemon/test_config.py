"""Settings and flags."""

from __future__ import annotations

import pytest

from pycontainerd.daemon import config, flags
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
        'version = 2\nimports = ["config.toml"]\ndisabled_plugins = ["b"]\nstate = "/s"\n'
    )
    loaded = load(tmp_path, 'version = 2\nimports = ["extra*.toml"]\ndisabled_plugins = ["a"]\nroot = "/r"\n')
    assert (loaded.root, loaded.state, loaded.disabled_plugins) == ("/r", "/s", ["a", "b"])


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
