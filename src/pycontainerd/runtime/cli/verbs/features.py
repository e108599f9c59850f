"""pyrunc features."""

from __future__ import annotations

from pycontainerd.lib.linux.capabilities import CAPABILITIES
from pycontainerd.lib.linux.namespaces import LINUX_NAMESPACES
from pycontainerd.lib.linux.scheduling import MPOL_FLAGS, MPOL_MODES
from pycontainerd.lib.linux.seccomp import ACTIONS, ARCHITECTURES, FILTER_FLAGS, OPERATORS, library_version
from pycontainerd.lib.oci.document import dumps
from pycontainerd.lib.oci.runtime import VERSION
from pycontainerd.runtime.cli.main import write_out
from pycontainerd.runtime.libcontainer.config import HOOKS
from pycontainerd.runtime.libcontainer.mount_option import EXTENSIONS, FLAGS, PROPAGATION, RECURSIVE
from pycontainerd.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def run(context: Context, values: Values) -> int:
    """What this runtime can do, as runtime-spec's features document."""
    document = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted({**FLAGS, **PROPAGATION, **RECURSIVE, **EXTENSIONS}),
        "linux": {
            "namespaces": sorted(LINUX_NAMESPACES),
            "capabilities": list(CAPABILITIES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": bool(library_version()),
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(ARCHITECTURES),
                "knownFlags": sorted(FILTER_FLAGS),
                "supportedFlags": sorted(FILTER_FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {"modes": sorted(MPOL_MODES), "flags": sorted(MPOL_FLAGS)},
            "netDevices": {"enabled": True},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        # With --systemd-cgroup these set properties of a unit of the host: who takes annotations from others drops them.
        "potentiallyUnsafeConfigAnnotations": ["bundle", "org.systemd.property."],
        "annotations": {
            "io.github.seccomp.libseccomp.version": library_version(),
            "org.opencontainers.runc.checkpoint.enabled": "false",
            "org.opencontainers.runc.version": __version__,
        },
    }
    write_out(dumps(document, "    ") + "\n")
    return 0
