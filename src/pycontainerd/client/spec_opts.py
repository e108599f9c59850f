"""The default Spec of a container and the pure functions that change it: Spec -> Spec, nothing is read or run here.

A Spec is the JSON document itself; `ordered` puts its keys where containerd's encoder puts them and leaves out what is
empty, so that the bytes equal containerd's.

Spec: runtime-spec config.md, containerd oci.GenerateSpec (1.6)
"""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Final

    Spec = dict[str, Any]


VERSION: Final = "1.0.2-dev"
DEFAULT_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RWM: Final = "rwm"

CAPABILITIES: Final = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    )
)
MASKED_PATHS: Final = (
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
)
READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_TMPFS: Final = ["nosuid", "strictatime", "mode=755", "size=65536k"]
_QUIET: Final = ["nosuid", "noexec", "nodev"]
MOUNTS: Final = (
    ("/proc", "proc", "proc", _QUIET),
    ("/dev", "tmpfs", "tmpfs", _TMPFS),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/shm", "tmpfs", "shm", [*_QUIET, "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", _QUIET),
    ("/sys", "sysfs", "sysfs", [*_QUIET, "ro"]),
    ("/run", "tmpfs", "tmpfs", _TMPFS),
)
# /dev/null, zero, full, tty, random?, urandom, console, pts/*, ptmx: containerd 1.6's order. Unlike the notes: no
# 10:200 (/dev/net/tun), which later releases took away.
UNIX_DEVICES: Final = ((1, 3), (1, 8), (1, 7), (5, 0), (1, 5), (1, 9), (5, 1), (136, None), (5, 2))
NAMESPACES: Final = ("pid", "ipc", "uts", "mount", "network")


def _copy(value: Any) -> Any:
    """A deep copy of a JSON document; the copy module's own takes ten times as long."""
    if isinstance(value, dict):
        return {key: _copy(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_copy(entry) for entry in value]
    return value


def default_spec(namespace: str, container_id: str = "") -> Spec:
    """What containerd makes for an empty id too (`ctr oci spec`): five namespaces, 14 capabilities, no devices."""
    capabilities = list(CAPABILITIES)
    return {
        "ociVersion": VERSION,
        "process": {
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "capabilities": {
                # No inheritable ones: they would survive an exec of an unprivileged user's (CVE-2022-24769).
                "bounding": list(capabilities),
                "effective": list(capabilities),
                "permitted": list(capabilities),
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "mounts": [mount(*row) for row in MOUNTS],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": RWM}]},
            "cgroupsPath": f"/{namespace}/{container_id}".rstrip("/"),
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
        },
    }


def mount(destination: str, kind: str, source: str, options: Sequence[str]) -> dict[str, Any]:
    """One entry of `mounts`."""
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def with_default_devices(spec: Spec) -> Spec:
    """Lets the container use the devices that the runtime makes in every /dev."""
    out: Spec = _copy(spec)
    rules = out["linux"]["resources"].setdefault("devices", [])
    for major, minor in UNIX_DEVICES:
        rule = {"allow": True, "type": "c", "major": major, "minor": minor, "access": RWM}
        rules.append({key: value for key, value in rule.items() if value is not None})
    return out


def with_process(spec: Spec, **fields: Any) -> Spec:
    """Sets fields of `process`; None leaves one as it is."""
    out: Spec = _copy(spec)
    out.setdefault("process", {}).update({key: value for key, value in fields.items() if value is not None})
    return out


def with_args(spec: Spec, args: Sequence[str]) -> Spec:
    """The argv of the process."""
    return with_process(spec, args=list(args))


def with_env(spec: Spec, changes: Iterable[str]) -> Spec:
    """Adds or replaces variables; `NAME` without `=` removes one."""
    current: list[str] = list(spec.get("process", {}).get("env", ()))
    return with_process(spec, env=merge_env(current, changes))


def merge_env(current: Sequence[str], changes: Iterable[str]) -> list[str]:
    """containerd's replaceOrAppendEnvValues: replaced in place, appended otherwise, removed without `=`."""
    out: list[str | None] = list(current)
    places = {entry.partition("=")[0]: place for place, entry in enumerate(current)}
    for change in changes:
        name, equals, _ = change.partition("=")
        if not equals:
            if name in places:
                out[places[name]] = None
        elif name in places:
            out[places[name]] = change
        else:
            places[name] = len(out)
            out.append(change)
    return [entry for entry in out if entry is not None]


def with_terminal(spec: Spec) -> Spec:
    """A terminal, and TERM for what runs on it."""
    return with_env(with_process(spec, terminal=True), ["TERM=xterm"])


def with_root(spec: Spec, *, path: str | None = None, readonly: bool = False) -> Spec:
    """Where the root file system is, and whether it can be written."""
    out: Spec = _copy(spec)
    root = out.setdefault("root", {"path": "rootfs"})
    if path is not None:
        root["path"] = path
    if readonly:
        root["readonly"] = True
    return out


def with_mounts(spec: Spec, mounts: Sequence[Mapping[str, Any]]) -> Spec:
    """Further mounts, after the ones that are there."""
    out: Spec = _copy(spec)
    out.setdefault("mounts", []).extend(dict(entry) for entry in mounts)
    return out


def without_mount(spec: Spec, destination: str) -> Spec:
    """The mounts without the ones on this destination."""
    out: Spec = _copy(spec)
    out["mounts"] = [entry for entry in out.get("mounts", ()) if entry["destination"] != destination]
    return out


def with_writable(spec: Spec, kind: str) -> Spec:
    """Mounts of this file system type (sysfs, cgroup) become writable."""
    out: Spec = _copy(spec)
    for entry in out.get("mounts", ()):
        if entry["type"] == kind:
            entry["options"] = ["rw" if option == "ro" else option for option in entry.get("options", ())]
    return out


def with_namespace(spec: Spec, kind: str, path: str = "") -> Spec:
    """A namespace of this kind: joined when there is a path, replaced where there is one already."""
    out: Spec = _copy(spec)
    entries = out.setdefault("linux", {}).setdefault("namespaces", [])
    wanted = {"type": kind, "path": path} if path else {"type": kind}
    for place, entry in enumerate(entries):
        if entry["type"] == kind:
            entries[place] = wanted
            return out
    entries.append(wanted)
    return out


def without_namespace(spec: Spec, kind: str) -> Spec:
    """The host's namespace of this kind."""
    out: Spec = _copy(spec)
    entries = out.get("linux", {}).get("namespaces", ())
    out["linux"]["namespaces"] = [entry for entry in entries if entry["type"] != kind]
    return out


def with_capabilities(spec: Spec, capabilities: Sequence[str]) -> Spec:
    """Exactly these, in bounding, effective and permitted; never inheritable."""
    out: Spec = _copy(spec)
    sets = out["process"].setdefault("capabilities", {})
    for name in ("bounding", "effective", "permitted"):
        sets[name] = list(capabilities)
    return out


def with_changed_capabilities(spec: Spec, add: Sequence[str], drop: Sequence[str]) -> Spec:
    """Adds some, drops others."""
    out: Spec = _copy(spec)
    sets = out["process"].setdefault("capabilities", {})
    for name in ("bounding", "effective", "permitted"):
        kept = list(sets.get(name, ()))
        kept += [capability for capability in add if capability not in kept]
        sets[name] = [capability for capability in kept if capability not in drop]
    return out


def with_linux(spec: Spec, **fields: Any) -> Spec:
    """Sets fields of `linux`; None leaves one as it is."""
    out: Spec = _copy(spec)
    out.setdefault("linux", {}).update({key: value for key, value in fields.items() if value is not None})
    return out


def with_resources(spec: Spec, part: str, **fields: Any) -> Spec:
    """Sets fields of `linux.resources.<part>`; None leaves one as it is."""
    out: Spec = _copy(spec)
    resources = out.setdefault("linux", {}).setdefault("resources", {})
    resources.setdefault(part, {}).update({key: value for key, value in fields.items() if value is not None})
    return out


def with_device(spec: Spec, device: Mapping[str, Any], access: str = RWM) -> Spec:
    """A device node in the container, and the cgroup's permission to use it."""
    out: Spec = _copy(spec)
    linux = out.setdefault("linux", {})
    linux.setdefault("devices", []).append(dict(device))
    rule = {"allow": True, "type": device["type"], "major": device["major"], "minor": device["minor"]}
    linux.setdefault("resources", {}).setdefault("devices", []).append({**rule, "access": access})
    return out


def with_all_devices_allowed(spec: Spec) -> Spec:
    """The cgroup permits every device."""
    out: Spec = _copy(spec)
    out["linux"].setdefault("resources", {})["devices"] = [{"allow": True, "access": RWM}]
    return out


def with_annotations(spec: Spec, annotations: Mapping[str, str]) -> Spec:
    """Adds annotations."""
    out: Spec = _copy(spec)
    if annotations:
        merged = {**out.get("annotations", {}), **annotations}
        out["annotations"] = {key: merged[key] for key in sorted(merged)}
    return out


def with_user_namespace(
    spec: Spec, uid_mappings: Sequence[Mapping[str, int]], gid_mappings: Sequence[Mapping[str, int]]
) -> Spec:
    """A user namespace with these maps."""
    out = with_namespace(spec, "user")
    out["linux"]["uidMappings"] = [dict(entry) for entry in uid_mappings]
    out["linux"]["gidMappings"] = [dict(entry) for entry in gid_mappings]
    return out


# name -> (key order, keys that are written even when empty). Nested documents are listed under "parent.key".
_SHAPES: Final[dict[str, tuple[str, str]]] = {
    "": (
        "ociVersion process root hostname domainname mounts hooks annotations linux solaris windows vm",
        "ociVersion",
    ),
    "process": (
        (
            "terminal consoleSize user args commandLine env cwd capabilities rlimits noNewPrivileges "
            "apparmorProfile oomScoreAdj selinuxLabel"
        ),
        "user cwd",
    ),
    "process.consoleSize": ("height width", "height width"),
    "process.user": ("uid gid umask additionalGids username", "uid gid"),
    "process.capabilities": ("bounding effective inheritable permitted ambient", ""),
    "process.rlimits": ("type hard soft", "type hard soft"),
    "root": ("path readonly", "path"),
    "mounts": ("destination type source options uidMappings gidMappings", "destination"),
    "hooks": ("prestart createRuntime createContainer startContainer poststart poststop", ""),
    "linux": (
        (
            "uidMappings gidMappings sysctl resources cgroupsPath namespaces devices seccomp rootfsPropagation "
            "maskedPaths readonlyPaths mountLabel intelRdt personality"
        ),
        "",
    ),
    "linux.uidMappings": ("containerID hostID size", "containerID hostID size"),
    "linux.gidMappings": ("containerID hostID size", "containerID hostID size"),
    "linux.resources": (
        "devices memory cpu pids blockIO hugepageLimits network rdma unified",
        "",
    ),
    "linux.resources.devices": ("allow type major minor access", "allow major minor"),
    "linux.resources.memory": (
        "limit reservation swap kernel kernelTCP swappiness disableOOMKiller useHierarchy checkBeforeUpdate",
        "limit reservation swap kernel kernelTCP swappiness",
    ),
    "linux.resources.cpu": (
        "shares quota burst period realtimeRuntime realtimePeriod cpus mems idle",
        "shares quota period",
    ),
    "linux.resources.pids": ("limit", "limit"),
    "linux.namespaces": ("type path", "type"),
    "linux.devices": ("path type major minor fileMode uid gid", "path type major minor uid gid"),
    "linux.seccomp": (
        "defaultAction defaultErrnoRet architectures flags listenerPath listenerMetadata syscalls",
        "defaultAction",
    ),
    "linux.seccomp.syscalls": ("names action errnoRet args", "names action"),
    "linux.seccomp.syscalls.args": ("index value valueTwo op", "index value op"),
    "linux.intelRdt": ("closID l3CacheSchema memBwSchema enableCMT enableMBM", ""),
}


def ordered(document: Spec, shape: str = "") -> Spec:
    """The same document, keys in Go's order, empty values left out where Go leaves them out."""
    order, always = (set_or_list.split() for set_or_list in _SHAPES[shape])
    known = [key for key in order if key in document]
    rest = [key for key in document if key not in order]
    out: Spec = {}
    for key in (*known, *rest):
        value = _ordered_value(document[key], f"{shape}.{key}" if shape else key)
        if value or key in always:
            out[key] = value
    return out


def _ordered_value(value: Any, shape: str) -> Any:
    if shape not in _SHAPES:
        return value
    if isinstance(value, dict):
        return ordered(value, shape)
    if isinstance(value, list):
        return [ordered(entry, shape) if isinstance(entry, dict) else entry for entry in value]
    return value


def encode(document: Spec) -> bytes:
    """The bytes that containerd's encoder gives for a Spec."""
    return _go_json(ordered(document))


def encode_process(process: Mapping[str, Any]) -> bytes:
    """The bytes of a process document, for an exec."""
    return _go_json(ordered(dict(process), "process"))


def _go_json(value: Any) -> bytes:
    from pycontainerd.lib.oci import document

    return document.dumps(value).encode("utf-8", "surrogateescape")


def parse_mount(text: str) -> dict[str, Any]:
    """`type=bind,src=/a,dst=/b,options=rbind:ro` of --mount; InvalidArgument otherwise."""
    import csv

    out: dict[str, Any] = {}
    for field in next(csv.reader([text])):
        key, equals, value = field.partition("=")
        if not equals:
            raise InvalidArgument(
                "invalid mount specification: expected key=val",
                hint="--mount type=bind,src=/host/path,dst=/container/path,options=rbind:ro",
            )
        if key in {"src", "source"}:
            out["source"] = value
        elif key in {"dst", "destination"}:
            out["destination"] = value
        elif key == "type":
            out["type"] = value
        elif key == "options":
            out["options"] = value.split(":")
        else:
            raise InvalidArgument(
                f'mount option "{key}" not supported',
                hint="keys of --mount are type, src, dst and options",
            )
    return out
