"""What a runtime says of itself: its shim, run with -info.

Spec: containerd docs/runtime-v2.md (-info), containerd.types.RuntimeInfo
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from pycontainerd.daemon.plugins.runtime_v2 import binary
from pycontainerd.daemon.plugins.runtime_v2.starter import encode_options
from pycontainerd.lib.api.full import types
from pycontainerd.lib.errdefs import Unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.typed import TypedValue
    from pycontainerd.daemon.plugins.runtime_v2.runtime import Settings

_TIMEOUT_S: Final = 30
_HANDLED_MOUNTS: Final = "containerd.io/runtime-allow-mounts"
_OLD_HINT: Final = "shims answer -info since containerd 2.0"


class RuntimeInformer:
    """Implements core.plugins.RuntimeInformer."""

    def __init__(self, settings: Settings, pools: Pools) -> None:
        self._settings = settings
        self._pools = pools
        self._handled: dict[str, Sequence[str]] = {}

    async def runtime_info(self, runtime: str, options: TypedValue | None) -> bytes:
        """The bytes of a containerd.types.RuntimeInfo; Unknown, with the shim's words, when it gives none."""
        path = binary.resolve(runtime, self._settings.runtime_paths)
        return await self._pools.run("shims", _ask, path, encode_options(options))

    async def handled_mounts(self, runtime: str) -> Sequence[str]:
        """The types of mounts that the shim makes itself, by an annotation of what it says; asked once. Unknown."""
        if runtime not in self._handled:
            if binary.is_own(binary.resolve(runtime, self._settings.runtime_paths)):
                return ()
            info = types.RuntimeInfo.FromString(await self.runtime_info(runtime, None))
            self._handled[runtime] = info.annotations.get(_HANDLED_MOUNTS, "").split(",")
        return self._handled[runtime]


def _ask(path: str, stdin: bytes) -> bytes:
    what = f"failed to run [{path} -info]"
    try:
        done = subprocess.run(
            [path, "-info"], input=stdin, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unknown(f"{what}: {error}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").partition("\n")[0]
        raise Unknown(f"{what}: exit status {done.returncode} (stderr: {said!r})", hint=_OLD_HINT)
    try:
        types.RuntimeInfo.FromString(done.stdout)
    except DecodeError as error:
        raise Unknown(f"{what}: what it printed is no RuntimeInfo", hint=_OLD_HINT) from error
    return done.stdout
