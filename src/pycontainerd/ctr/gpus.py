"""`--gpus`: NVIDIA's program, run as a hook that puts the GPUs into the container before it starts.

Spec: containerd 1.x contrib/nvidia (nvidia-container-cli configure), containerd oci-hook
"""

from __future__ import annotations

from pycontainerd.lib.errdefs import NotFound

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from pycontainerd.client.spec_opts import Spec

_PROGRAM: Final = "nvidia-container-cli"
_CAPABILITIES: Final = ("compute", "compat32", "graphics", "utility", "video", "display")


def with_gpus(spec: Spec, indices: Sequence[object], environ: Mapping[str, str]) -> Spec:
    """The Spec with the hook; NotFound, in Go's words, where NVIDIA's program isn't on PATH."""
    import shutil

    from pycontainerd.lib import launcher

    program = shutil.which(_PROGRAM)
    if program is None:
        raise NotFound(
            f'exec: "{_PROGRAM}": executable file not found in $PATH',
            hint="--gpus needs NVIDIA's container tools (libnvidia-container); single nodes can be given by --device",
        )
    # Either program fills {{pid}} and {{rootfs}} in from the state that a hook gets.
    hook = shutil.which("containerd") or launcher.path("pycontainerd")
    devices = [f"--device={','.join(str(index) for index in indices)}"] if indices else []
    arguments = [
        "containerd",
        "oci-hook",
        "--",
        program,
        "--load-kmods",
        "configure",
        *devices,
        *(f"--{capability}" for capability in _CAPABILITIES),
        "--pid={{pid}}",
        "{{rootfs}}",
    ]
    hooks = spec.get("hooks", {})
    added = {
        "path": hook,
        "args": arguments,
        "env": [f"{name}={value}" for name, value in environ.items()],
    }
    return {**spec, "hooks": {**hooks, "prestart": [*hooks.get("prestart", ()), added]}}
