"""The shim's -info: its name and version, and the options that it was given."""

from __future__ import annotations

import subprocess

from pycontainerd.lib.api.light import runc_v1, types, wkt
from pycontainerd.version import __version__
from support.programs import ours


def info(stdin: bytes) -> types.RuntimeInfo:
    command = [ours("containerd-shim-pyrunc-v2"), "-info"]
    done = subprocess.run(command, input=stdin, capture_output=True, check=True)
    return types.RuntimeInfo.FromString(done.stdout)


def test_without_options_there_are_none() -> None:
    """An empty Any has a type that containerd 2's ctr looks for and doesn't find."""
    said = info(b"")
    assert (said.name, said.version.version) == ("io.containerd.pyrunc.v2", __version__)
    assert not said.HasField("options")


def test_options_come_back() -> None:
    options = wkt.Any(
        type_url="containerd.runc.v1.Options", value=runc_v1.Options(binary_name="x").SerializeToString()
    )
    assert info(options.SerializeToString()).options == options
