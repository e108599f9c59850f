"""The config.json to start from that `spec` writes: runc's, field by field.

Spec: runtime-spec config.md; runc spec
"""

from __future__ import annotations

from pycontainerd.lib.oci.runtime import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_NO = ["nosuid", "noexec", "nodev"]
MASKED_PATHS = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def _mount(destination: str, fstype: str, source: str, options: list[str] | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"destination": destination, "type": fstype, "source": source}
    if options:
        entry["options"] = options
    return entry


def template(*, cgroup_namespace: bool = False) -> dict[str, Any]:
    """A new document; the caller may change it."""
    kinds = ["pid", "network", "ipc", "uts", "mount"] + (["cgroup"] if cgroup_namespace else [])
    return {
        "ociVersion": VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted", "ambient")
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            _mount(
                "/dev/pts",
                "devpts",
                "devpts",
                ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            _mount("/dev/shm", "tmpfs", "shm", [*_NO, "mode=1777", "size=65536k"]),
            _mount("/dev/mqueue", "mqueue", "mqueue", list(_NO)),
            _mount("/sys", "sysfs", "sysfs", [*_NO, "ro"]),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*_NO, "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in kinds],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
        },
    }


def rootless(spec: dict[str, Any], uid: int, gid: int) -> dict[str, Any]:
    """The same for a user who isn't root: a user namespace, the host's network and sysfs, no limits."""
    linux = spec["linux"]
    linux["namespaces"] = [item for item in linux["namespaces"] if item["type"] != "network"]
    linux["namespaces"].append({"type": "user"})
    del linux["resources"]
    spec["linux"] = {
        "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": gid, "size": 1}],
        **linux,
    }
    mounts = []
    for entry in spec["mounts"]:
        if entry["destination"] == "/sys":
            mounts.append(_mount("/sys", "none", "/sys", ["rbind", *_NO, "ro"]))
            continue
        if "options" in entry:
            entry["options"] = [word for word in entry["options"] if not word.startswith(("gid=", "uid="))]
        mounts.append(entry)
    spec["mounts"] = mounts
    return spec
