"""The shim's command line in Go's flag syntax."""

import pytest

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.shim import flags


def test_s066_start_command_line() -> None:
    parsed = flags.parse(
        [
            "-namespace",
            "default",
            "-address",
            "/run/c.sock",
            "-publish-binary",
            "/tmp/___containerd",
            "-id",
            "u8",
            "-debug",
            "start",
        ]
    )
    assert (parsed.namespace, parsed.address, parsed.publish_binary) == (
        "default",
        "/run/c.sock",
        "/tmp/___containerd",
    )
    assert (parsed.id, parsed.debug, parsed.action) == ("u8", True, "start")


def test_s068_first_word_ends_the_flags() -> None:
    parsed = flags.parse(["-id", "x", "delete", "-debug"])
    assert (parsed.action, parsed.debug) == ("delete", False)


@pytest.mark.parametrize("words", [["--id=x"], ["-id=x"], ["--id", "x"]])
def test_spellings_of_a_flag(words: list[str]) -> None:
    assert flags.parse(words).id == "x"


@pytest.mark.parametrize(
    ("word", "value"), [("-debug", True), ("-debug=false", False), ("-debug=T", True), ("-v", False)]
)
def test_switches_take_a_value_only_after_an_equals_sign(word: str, value: bool) -> None:
    parsed = flags.parse([word, "start"])
    assert (parsed.debug, parsed.action) == (value, "start")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-nope"], "flag provided but not defined: -nope"),
        (["-id"], "flag needs an argument: -id"),
        (["-debug=maybe"], 'invalid boolean value "maybe" for -debug: parse error'),
        (["---id"], "bad flag syntax: ---id"),
        (["-=x"], "bad flag syntax: -=x"),
    ],
)
def test_errors_are_gos(words: list[str], text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        flags.parse(words)
    assert str(caught.value) == text


def test_s005_the_command_line_of_runtime_v1() -> None:
    parsed = flags.parse(["-namespace", "moby", "-workdir", "/w", "-systemd-cgroup", "-criu=/c"], flags.LINUX)
    assert (parsed.namespace, parsed.workdir, parsed.systemd_cgroup, parsed.criu) == (
        "moby",
        "/w",
        True,
        "/c",
    )
    assert (parsed.containerd_binary, parsed.runtime_root) == ("containerd", "/run/containerd/runc")


@pytest.mark.parametrize(
    ("syntax", "word"),
    [
        (flags.LINUX, "-v"),
        (flags.LINUX, "-id"),
        (flags.V1, "-info"),
        (flags.V1, "-debug-socket"),
        (flags.V2, "-workdir"),
    ],
)
def test_a_flag_of_another_generation_is_not_defined(syntax: flags.Syntax, word: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        flags.parse([word, "x"], syntax)
    assert str(caught.value) == f"flag provided but not defined: {word}"
