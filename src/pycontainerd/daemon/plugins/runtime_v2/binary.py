"""Which program is the shim of a runtime name, and the two commands it is run with.

Spec: containerd docs/runtime-v2.md (binary naming, command line, start and delete)
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

from pycontainerd.lib import launcher
from pycontainerd.lib.errdefs import Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN_SHIM: Final = "containerd-shim-pyrunc-v2"
_OWN_V1: Final = "containerd-shim-pyrunc-v1"
# Every real client asks for runc's; on this daemon they are our shims.
_OWN_NAMES: Final = {
    "io.containerd.runc.v2": OWN_SHIM,
    "io.containerd.pyrunc.v2": OWN_SHIM,
    "io.containerd.runc.v1": _OWN_V1,
    "io.containerd.pyrunc.v1": _OWN_V1,
}


def resolve(runtime: str, runtime_paths: Mapping[str, str]) -> str:
    """The absolute path of a runtime's shim. `runtime` is a name, or already an absolute path."""
    if not runtime:
        raise Unknown("failed to resolve runtime path: no runtime name")
    if os.path.isabs(runtime):
        if not os.path.exists(runtime):
            raise Unknown(
                f"failed to resolve runtime path: invalid custom binary path: stat {runtime}: "
                "no such file or directory"
            )
        return runtime
    if runtime in runtime_paths:
        return runtime_paths[runtime]
    if runtime in _OWN_NAMES:
        return launcher.path(_OWN_NAMES[runtime])
    name = binary_name(runtime)
    found = shutil.which(name)
    if found is None:
        beside = f"{launcher.bin_dir()}/{name}"
        if not os.path.exists(beside):
            raise Unknown(
                f'failed to resolve runtime path: runtime "{runtime}" binary not installed "{name}": '
                "file does not exist",
                hint=f"install {name} on PATH, or name it in plugins.'io.containerd.shim.v1.manager'.runtime_paths",
            )
        found = beside
    return os.path.abspath(found)


def is_own(path: str) -> bool:
    """Whether a resolved shim is one of ours, of which nothing has to be asked."""
    return path in {launcher.path(name) for name in _OWN_NAMES.values()}


def binary_name(runtime: str) -> str:
    """containerd-shim-NAME-VERSION of prefix.NAME.VERSION."""
    parts = runtime.split(".")
    if len(parts) < 2 or "/" in runtime:
        raise Unknown(
            f"failed to resolve runtime path: invalid runtime name {runtime}, correct runtime name should be either "
            "format like `io.containerd.runc.v1` or a full path to the binary"
        )
    return f"containerd-shim-{parts[-2]}-{parts[-1]}"
