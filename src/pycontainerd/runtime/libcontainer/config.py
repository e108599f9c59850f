"""What a container is: config.json, checked and compiled to plain values before anything is made.

Spec: runtime-spec config.md, config-linux.md
"""

from __future__ import annotations

import os

from pycontainerd.lib.errdefs import InvalidArgument, NotFound
from pycontainerd.lib.linux import mount as m
from pycontainerd.lib.linux.capabilities import CAPABILITIES
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.lib.linux.namespaces import LINUX_NAMESPACES
from pycontainerd.lib.linux.rlimits import RLIMITS
from pycontainerd.lib.oci import runtime as oci
from pycontainerd.runtime.libcontainer.mount_option import PROPAGATION, MountOptions, parse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.runtime.libcontainer.scheduling import Affinity, MemoryPolicy, Scheduling

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
MAX_OOM_SCORE_ADJ = 1000  # and its negative: OOM_SCORE_ADJ_MAX of linux/oom.h
CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")

# mknod(2) type letter, major, minor; always present, world-accessible
DEFAULT_DEVICES = (
    ("/dev/null", "c", 1, 3),
    ("/dev/random", "c", 1, 8),
    ("/dev/full", "c", 1, 7),
    ("/dev/tty", "c", 5, 0),
    ("/dev/zero", "c", 1, 5),
    ("/dev/urandom", "c", 1, 9),
)


class IDMapping:
    """`size` ids from container_id are those from host_id outside."""

    __slots__ = ("container_id", "host_id", "size")

    def __init__(self, container_id: int, host_id: int, size: int) -> None:
        self.container_id = container_id
        self.host_id = host_id
        self.size = size


class Mount:
    """One entry of `mounts`, options taken apart, a relative bind source made absolute."""

    __slots__ = (
        "destination",
        "fstype",
        "gid_mappings",
        "is_bind",
        "is_id_mapped",
        "options",
        "source",
        "uid_mappings",
        "userns_path",
    )

    def __init__(self, raw: dict[str, Any], bundle: str) -> None:
        self.options: MountOptions = parse_options(raw.get("options", []))
        self.fstype: str = raw.get("type", "")
        self.is_bind = bool(self.options.flags & m.MS_BIND) or self.fstype == "bind"
        self.destination: str = raw["destination"]
        self.source: str = raw.get("source", "")
        if self.is_bind:
            self.fstype = "bind"
            self.options.flags |= m.MS_BIND
            if not self.source.startswith("/"):
                self.source = os.path.normpath(f"{bundle}/{self.source}")
        self.uid_mappings = parse_mappings(raw.get("uidMappings", []))
        self.gid_mappings = parse_mappings(raw.get("gidMappings", []))
        self.is_id_mapped = "uidMappings" in raw or "gidMappings" in raw or self.options.id_map is not None
        self.userns_path = ""  # the namespace whose mappings are meant, where none are given


class Device:
    """A device node to make."""

    __slots__ = ("gid", "kind", "major", "minor", "mode", "path", "uid")

    def __init__(self, path: str, kind: str, major: int, minor: int, mode: int, uid: int, gid: int) -> None:
        self.path = path
        self.kind = kind
        self.major = major
        self.minor = minor
        self.mode = mode
        self.uid = uid
        self.gid = gid


class Process:
    """`process` of config.json, or of a process.json for exec."""

    __slots__ = (
        "additional_gids",
        "apparmor_profile",
        "args",
        "capabilities",
        "console_size",
        "cwd",
        "env",
        "exec_affinity",
        "gid",
        "no_new_privileges",
        "oom_score_adj",
        "rlimits",
        "scheduling",
        "selinux_label",
        "terminal",
        "uid",
        "umask",
        "unknown_capabilities",
    )

    def __init__(self, raw: dict[str, Any]) -> None:
        if not raw.get("cwd"):
            raise InvalidArgument("Cwd property must not be empty")
        if not raw["cwd"].startswith("/"):
            raise InvalidArgument("Cwd must be an absolute path")
        if not raw.get("args"):
            raise InvalidArgument("args must not be empty")
        user = raw.get("user", {})
        self.args: list[str] = raw["args"]
        self.cwd: str = raw["cwd"]
        self.env = _environment(raw.get("env", []))
        self.terminal: bool = raw.get("terminal", False)
        size = raw.get("consoleSize")
        self.console_size: tuple[int, int] | None = (
            (size.get("height", 0), size.get("width", 0)) if size else None
        )
        self.uid: int = user.get("uid", 0)
        self.gid: int = user.get("gid", 0)
        if 0xFFFFFFFF in (self.uid, self.gid):  # -1 would leave the id unchanged: root
            raise InvalidArgument("process.user: 4294967295 is not an id")
        self.umask: int | None = user.get("umask")
        self.additional_gids: list[int] = user.get("additionalGids", [])
        self.capabilities, self.unknown_capabilities = _capabilities(raw.get("capabilities"))
        self.rlimits = [_rlimit(item) for item in raw.get("rlimits", [])]
        self.no_new_privileges: bool = raw.get("noNewPrivileges", False)
        self.oom_score_adj: int | None = raw.get("oomScoreAdj")
        if abs(self.oom_score_adj or 0) > MAX_OOM_SCORE_ADJ:
            raise InvalidArgument(f"process.oomScoreAdj: {self.oom_score_adj} is not between -1000 and 1000")
        self.apparmor_profile: str = raw.get("apparmorProfile", "")
        self.selinux_label: str = raw.get("selinuxLabel", "")
        if self.selinux_label and not os.path.isdir("/sys/fs/selinux/booleans"):
            raise InvalidArgument(
                "selinux label is specified in config, but selinux is disabled or not supported"
            )
        self.scheduling: Scheduling | None = None
        self.exec_affinity: Affinity | None = None
        if "ioPriority" in raw or "scheduler" in raw:
            from pycontainerd.runtime.libcontainer.scheduling import Scheduling

            self.scheduling = Scheduling(raw)
        if raw.get("execCPUAffinity", {}).keys() & {"initial", "final"}:
            from pycontainerd.runtime.libcontainer.scheduling import Affinity

            self.exec_affinity = Affinity(raw["execCPUAffinity"])


def _environment(raw: list[str]) -> list[str]:
    """As the program gets it: of a name that comes twice the last one counts."""
    found: dict[str, str] = {}
    for at, item in enumerate(raw):
        name, equals, _ = item.partition("=")
        if not name or not equals:
            rule = "name cannot be empty" if equals else "missing '='"
            raise InvalidArgument(f"process.env[{at}]: invalid environment variable: {rule}")
        found.pop(name, None)
        found[name] = item
    return list(found.values())


def _capabilities(raw: dict[str, list[str]] | None) -> tuple[dict[str, list[str]] | None, list[str]]:
    if raw is None:
        return None, []
    unknown: list[str] = []
    for name in CAPABILITY_SETS:
        unknown += [cap for cap in raw.get(name, ()) if cap not in CAPABILITIES and cap not in unknown]
    sets = {name: [cap for cap in raw.get(name, ()) if cap in CAPABILITIES] for name in CAPABILITY_SETS}
    return sets, sorted(unknown)


def _rlimit(raw: dict[str, Any]) -> tuple[int, int, int]:
    name = raw.get("type", "")
    if name not in RLIMITS:
        raise InvalidArgument(f"wrong rlimit value: {name}")
    return RLIMITS[name], raw.get("soft", 0), raw.get("hard", 0)


def parse_mappings(raw: list[dict[str, int]]) -> list[IDMapping]:
    """Id mappings in the document's order."""
    return [IDMapping(item.get("containerID", 0), item.get("hostID", 0), item.get("size", 0)) for item in raw]


class Config:
    """A container's whole configuration; read-only once made."""

    __slots__ = (
        "annotations",
        "bundle",
        "cgroups_path",
        "devices",
        "domainname",
        "gid_mappings",
        "hooks",
        "hostname",
        "id",
        "intel_rdt",
        "masked_paths",
        "memory_policy",
        "mounts",
        "namespaces",
        "net_devices",
        "no_new_keyring",
        "no_pivot",
        "oci_version",
        "personality",
        "process",
        "readonly_paths",
        "resources",
        "root_readonly",
        "rootfs",
        "rootfs_propagation",
        "seccomp",
        "sysctl",
        "systemd_cgroup",
        "time_offsets",
        "uid_mappings",
    )

    def __init__(self, spec: dict[str, Any], *, id: str, bundle: str, systemd_cgroup: bool = False) -> None:
        linux = spec.get("linux", {})
        self.id = id
        self.bundle = bundle
        self.no_pivot = False
        self.no_new_keyring = False
        self.systemd_cgroup = systemd_cgroup
        self.oci_version: str = spec.get("ociVersion", "")
        if "process" not in spec:
            raise InvalidArgument("process property must not be empty")
        self.process = Process(spec["process"])
        self.rootfs, self.root_readonly = _root(spec, bundle)
        self.namespaces = _namespaces(linux.get("namespaces", []))
        self.hostname: str = spec.get("hostname", "")
        self.domainname: str = spec.get("domainname", "")
        self.mounts = [_mount(raw, bundle, at) for at, raw in enumerate(spec.get("mounts", []))]
        self.hooks: dict[str, list[dict[str, Any]]] = _hooks(spec.get("hooks", {}))
        self.annotations: dict[str, str] = spec.get("annotations", {})
        self.devices = _devices(linux.get("devices", []))
        self.resources: dict[str, Any] = linux.get("resources", {})
        _check_device_rules(self.resources.get("devices", []))
        self.cgroups_path: str = linux.get("cgroupsPath", "")
        self.sysctl: dict[str, str] = linux.get("sysctl", {})
        self.masked_paths: list[str] = linux.get("maskedPaths", [])
        self.readonly_paths: list[str] = linux.get("readonlyPaths", [])
        self.seccomp = _seccomp(linux.get("seccomp", {}))
        self.uid_mappings = parse_mappings(linux.get("uidMappings", []))
        self.gid_mappings = parse_mappings(linux.get("gidMappings", []))
        self.time_offsets: dict[str, dict[str, int]] = linux.get("timeOffsets", {})
        self.rootfs_propagation = 0
        propagation = linux.get("rootfsPropagation", "")
        if propagation:
            if propagation not in PROPAGATION:
                raise InvalidArgument(f"rootfsPropagation={propagation} is not supported")
            self.rootfs_propagation = PROPAGATION[propagation]
        self.personality: str = linux.get("personality", {}).get("domain", "")
        if self.personality not in ("", "LINUX", "LINUX32"):
            raise InvalidArgument(f"linux.personality.domain: {self.personality!r} is not LINUX or LINUX32")
        self.intel_rdt: dict[str, Any] | None = _intel_rdt(linux)
        self.memory_policy = _memory_policy(linux)
        self.net_devices = _net_devices(linux, self.namespaces)
        if linux.get("personality", {}).get("flags"):
            # Unlike runc, which warns: the spec knows no flag, so what was asked for can't be meant.
            raise InvalidArgument("linux.personality.flags: no flag is defined")
        validate(self, linux)
        for at, entry in enumerate(self.mounts):
            if entry.is_id_mapped:
                _complete_id_map(entry, self, f"mounts[{at}]")

    def creates(self, name: str) -> bool:
        """Whether the container gets a new namespace of this kind (not one that it joins)."""
        return self.namespaces.get(name) == ""

    def labels(self) -> list[str]:
        """Annotations and the bundle as runc keeps them in state.json."""
        return [*(f"{key}={value}" for key, value in self.annotations.items()), f"bundle={self.bundle}"]

    def host_uid(self, uid: int) -> int:
        """An id of the container as the host sees it; InvalidArgument when it isn't mapped."""
        return _to_host(self.uid_mappings, uid, "user" in self.namespaces, "uid")

    def host_gid(self, gid: int) -> int:
        """A group id of the container as the host sees it; InvalidArgument when it isn't mapped."""
        return _to_host(self.gid_mappings, gid, "user" in self.namespaces, "gid")


def _to_host(mappings: list[IDMapping], number: int, mapped: bool, kind: str) -> int:
    if not mapped or not mappings:
        return number
    for item in mappings:
        if item.container_id <= number < item.container_id + item.size:
            return item.host_id + number - item.container_id
    raise InvalidArgument(f"container {kind} {number} is not mapped to the host")


def _root(spec: dict[str, Any], bundle: str) -> tuple[str, bool]:
    root = spec.get("root")
    if not root:
        raise InvalidArgument("root must be specified")
    rootfs = root.get("path", "")
    if not rootfs.startswith("/"):
        rootfs = f"{bundle}/{rootfs}"
    rootfs = os.path.normpath(rootfs)
    try:
        os.stat(rootfs)
    except OSError as error:
        raise NotFound(f"invalid rootfs: stat {rootfs}: {go_error(error.errno or 0)}") from error
    if os.path.realpath(rootfs) != rootfs:
        raise InvalidArgument("invalid rootfs: not an absolute path, or a symlink")
    return rootfs, root.get("readonly", False)


def _namespaces(raw: list[dict[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in raw:
        kind, path = item.get("type", ""), item.get("path", "")
        if kind not in LINUX_NAMESPACES:
            raise InvalidArgument(f'namespace {{"{kind}" "{path}"}} does not exist')
        if kind in found:
            raise InvalidArgument(f'malformed spec file: duplicated ns {{"{kind}" "{path}"}}')
        found[kind] = path
    return found


def _mount(raw: dict[str, Any], bundle: str, at: int) -> Mount:
    if not raw.get("destination"):
        raise InvalidArgument(f"mounts[{at}].destination: must not be empty")
    made = Mount(raw, bundle)
    if not made.destination.startswith("/"):
        made.destination = "/" + made.destination
    return made


def _complete_id_map(entry: Mount, config: Config, where: str) -> None:
    """The rules of id-mapped mounts, in runc's words; without mappings those of the user namespace are meant."""
    if not entry.is_bind:
        raise InvalidArgument(f"{where}: id-mapped mounts are only supported for bind-mounts")
    if os.geteuid() != 0:
        raise InvalidArgument(f"{where}: id-mapped mounts are not supported for rootless containers")
    if not entry.uid_mappings and not entry.gid_mappings and "user" in config.namespaces:
        entry.userns_path = config.namespaces["user"]
        if entry.userns_path:
            return
        entry.uid_mappings, entry.gid_mappings = config.uid_mappings, config.gid_mappings
    if not entry.uid_mappings or not entry.gid_mappings:
        raise InvalidArgument(f"{where}: id-mapped mounts must have both uid and gid mappings specified")


def _hooks(raw: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    for kind, hooks in raw.items():
        for at, hook in enumerate(hooks):
            _check_hook(hook, f"hooks.{kind}[{at}]")
    return raw


def _check_hook(hook: dict[str, Any], where: str) -> None:
    path = hook.get("path", "")
    if not path.startswith("/"):
        raise InvalidArgument(f"{where}.path: {path!r} is not absolute")
    if "timeout" in hook and hook["timeout"] <= 0:
        raise InvalidArgument(f"{where}.timeout: must be greater than zero")
    if hook.get("args") and not hook["args"][0]:
        raise InvalidArgument(f"{where}.args[0]: must not be empty")
    for number, item in enumerate(hook.get("env", ())):
        if item.startswith("=") or not item:
            raise InvalidArgument(
                f"{where}.env[{number}]: invalid environment variable: name cannot be empty"
            )


def _devices(raw: list[dict[str, Any]]) -> list[Device]:
    found: dict[str, Device] = {}
    for at, item in enumerate(raw):
        path, kind = item.get("path", ""), item.get("type", "")
        if kind not in ("b", "c", "u", "p"):
            raise InvalidArgument(f"linux.devices[{at}].type: {kind!r} is not one of b, c, u, p")
        if not path.startswith("/"):
            raise InvalidArgument(f"linux.devices[{at}].path: {path!r} is not absolute")
        major, minor = item.get("major", 0), item.get("minor", 0)
        if kind != "p" and not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise InvalidArgument(f"linux.devices[{at}]: {major}:{minor} is not a device number")
        found[path] = Device(
            path, kind, major, minor, item.get("fileMode", 0o666), item.get("uid", 0), item.get("gid", 0)
        )
    for path, kind, major, minor in DEFAULT_DEVICES:
        found.setdefault(path, Device(path, kind, major, minor, 0o666, 0, 0))
    return list(found.values())


def _seccomp(raw: dict[str, Any]) -> dict[str, Any] | None:
    """A filter that says nothing is none."""
    return raw if raw.get("defaultAction") or raw.get("syscalls") else None


def _check_device_rules(raw: list[dict[str, Any]]) -> None:
    """The rules of the cgroup, in runc's words behind the place."""
    for at, rule in enumerate(raw):
        where, kind = f"linux.resources.devices[{at}]", rule.get("type", "")
        if not rule.get("access"):
            raise InvalidArgument(f"{where}: device access at {at} field cannot be empty")
        if kind not in ("", "a", "b", "c"):
            raise InvalidArgument(f'{where}: invalid cgroup device type "{kind}"')


def _intel_rdt(linux: dict[str, Any]) -> dict[str, Any] | None:
    if "intelRdt" not in linux:
        return None
    from pycontainerd.runtime.libcontainer import intelrdt

    raw: dict[str, Any] = linux["intelRdt"]
    intelrdt.check(raw, intelrdt.find_root())
    return raw


def _memory_policy(linux: dict[str, Any]) -> MemoryPolicy | None:
    if "memoryPolicy" not in linux:
        return None
    from pycontainerd.runtime.libcontainer.scheduling import parse_memory_policy

    return parse_memory_policy(linux["memoryPolicy"])


def _net_devices(linux: dict[str, Any], namespaces: dict[str, str]) -> dict[str, str]:
    if not linux.get("netDevices"):
        return {}
    from pycontainerd.runtime.libcontainer.netdevice import parse

    return parse(linux["netDevices"], namespaces)


_SYSCTL_IPC = frozenset(
    [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ]
)


def validate(config: Config, linux: dict[str, Any]) -> None:
    """The rules between fields; InvalidArgument in runc's words."""
    spaces = config.namespaces
    if "mount" not in spaces:
        raise InvalidArgument("config.json: a container without its own mount namespace is not supported")
    for name, value in (("hostname", config.hostname), ("domainname", config.domainname)):
        if value and "uts" not in spaces:
            raise InvalidArgument(f"unable to set {name} without a private UTS namespace")
    if "user" not in spaces and (config.uid_mappings or config.gid_mappings):
        raise InvalidArgument(
            "user namespace mappings specified, but user namespace isn't enabled in the config"
        )
    if config.creates("user") and not (config.uid_mappings and config.gid_mappings):
        raise InvalidArgument("rootless container requires user namespaces with uid and gid mappings")
    if config.time_offsets and not config.creates("time"):
        raise InvalidArgument("time namespace offsets specified, but time namespace isn't created")
    for key in config.sysctl:
        _validate_sysctl(key, spaces)
    if linux.get("mountLabel") and not os.path.isdir("/sys/fs/selinux/booleans"):
        raise InvalidArgument(
            "selinux label is specified in config, but selinux is disabled or not supported"
        )
    if ".." in config.cgroups_path.split("/"):
        raise InvalidArgument(f"linux.cgroupsPath: {config.cgroups_path!r} must not contain ..")


def _validate_sysctl(key: str, spaces: dict[str, str]) -> None:
    name = key.replace("/", ".") if "." not in key.split("/", maxsplit=1)[0] else key
    if ".." in name.split(".") or ".." in key.split("/"):
        raise InvalidArgument(f'sysctl "{key}" is not a sysctl name')
    if name in _SYSCTL_IPC or name.startswith("fs.mqueue."):
        if "ipc" in spaces:
            return
        raise InvalidArgument(f'sysctl "{key}" is not allowed in the hosts ipc namespace')
    if name.startswith("net."):
        if "network" in spaces:
            return
        raise InvalidArgument(f'sysctl "{key}" not allowed in host network namespace')
    if "uts" in spaces:
        if name == "kernel.domainname":
            return
        if name == "kernel.hostname":
            raise InvalidArgument(
                f'sysctl "{key}" is not allowed as it conflicts with the OCI "hostname" field'
            )
    raise InvalidArgument(f'sysctl "{key}" is not in a separate kernel namespace')


def load_spec(bundle: str) -> dict[str, Any]:
    """The bundle's config.json, types checked; NotFound when there is none."""
    try:
        fd = os.open(f"{bundle}/config.json", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound("JSON specification file config.json not found") from None
    chunks = []
    try:
        while chunk := os.read(fd, 1 << 20):
            chunks.append(chunk)
            if len(chunks) > 16:
                raise InvalidArgument("config.json is larger than 16 MiB")
    finally:
        os.close(fd)
    return oci.parse(b"".join(chunks))
