"""The start action without starting anything: addresses, generations, sockets."""

import hashlib

import pytest

from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import bootstrap_v1, runc_v1
from pycontainerd.lib.ttrpc.address import shim_address
from pycontainerd.shim import bootstrap, flags

FLAGS = flags.parse(["-namespace", "ns", "-address", "/run//c.sock", "-id", "c1", "start"])
OPTIONS = anys.pack(runc_v1.Options(shim_cgroup="/shims", binary_name="crun"))


def test_s043_address_is_a_hash_of_the_cleaned_path() -> None:
    expected = hashlib.sha256(b"/run/c.sock/ns/c1").hexdigest()
    assert (
        shim_address("/run/containerd/s", "/run//c.sock/", "ns", "c1")
        == f"unix:///run/containerd/s/{expected}"
    )


@pytest.mark.parametrize(
    ("version", "form"), [(None, "plain"), ("2", "plain"), ("3", "json"), ("x", "plain")]
)
def test_daemons_before_2_3_send_an_any(monkeypatch, version, form) -> None:
    monkeypatch.delenv("MAX_SHIM_VERSION", raising=False)
    if version:
        monkeypatch.setenv("MAX_SHIM_VERSION", version)
    read = bootstrap.read_bootstrap(OPTIONS.SerializeToString(), FLAGS)
    assert (read.answer_form, read.options.shim_cgroup, read.options.binary_name) == (form, "/shims", "crun")
    assert bootstrap.read_bootstrap(b"", FLAGS).options.binary_name == ""


def test_daemons_since_2_3_send_bootstrap_params() -> None:
    params = bootstrap_v1.BootstrapParams(
        instance_id="c1",
        namespace="ns",
        socket_dir="/run/other",
        extensions=[bootstrap_v1.Extension(value=OPTIONS)],
    )
    read = bootstrap.read_bootstrap(params.SerializeToString(), FLAGS)
    assert (read.answer_form, read.socket_dir, read.options.shim_cgroup) == (
        "protobuf",
        "/run/other",
        "/shims",
    )


def test_answers() -> None:
    assert bootstrap.format_answer("plain", "unix:///s") == b"unix:///s"
    assert (
        bootstrap.format_answer("json", "unix:///s")
        == b'{"version":3,"address":"unix:///s","protocol":"ttrpc"}'
    )
    result = bootstrap_v1.BootstrapResult.FromString(bootstrap.format_answer("protobuf", "unix:///s"))
    assert (result.version, result.address, result.protocol) == (3, "unix:///s", "ttrpc")


@pytest.mark.parametrize(
    ("annotations", "group"),
    [
        ("{}", "c1"),
        ('{"io.kubernetes.cri.sandbox-id": "pod"}', "pod"),
        ('{"io.kubernetes.cri.sandbox-id": "pod", "io.containerd.runc.v2.group": "mine"}', "mine"),
    ],
)
def test_grouping_annotations(tmp_path, monkeypatch, annotations, group) -> None:
    (tmp_path / "config.json").write_text('{"annotations": %s}' % annotations)  # noqa: UP031 - braces
    monkeypatch.chdir(tmp_path)
    assert bootstrap.grouping_id("c1") == group


def test_s067_serving_command_line() -> None:
    parsed = flags.parse(
        ["-namespace", "default", "-id", "u67", "-address", "/run/containerd/containerd.sock"]
    )
    assert bootstrap.serving_argv("/usr/bin/shim", parsed) == [
        "/usr/bin/shim", "-namespace", "default", "-id", "u67", "-address", "/run/containerd/containerd.sock",
    ]  # fmt: skip
