"""The libcontainer config inside state.json: ours written in runc's words, runc's read back where we need it.

Spec: runc libcontainer/configs (json tags), as written by runc 1.1
"""

from __future__ import annotations

from pycontainerd.lib.cgroups.devices import DEFAULT_RULES
from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.runtime.libcontainer.config import CAPABILITY_SETS, HOOKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.runtime.libcontainer.config import Config, IDMapping, Mount

_NAMESPACES = {
    "pid": "NEWPID",
    "network": "NEWNET",
    "ipc": "NEWIPC",
    "uts": "NEWUTS",
    "mount": "NEWNS",
    "user": "NEWUSER",
    "cgroup": "NEWCGROUP",
    "time": "NEWTIME",
}
_ACTIONS = (
    "",
    "SCMP_ACT_KILL",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
)
_OPERATORS = (
    "",
    "SCMP_CMP_EQ",
    "SCMP_CMP_NE",
    "SCMP_CMP_GT",
    "SCMP_CMP_GE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_MASKED_EQ",
)
_ARCHES = {
    "SCMP_ARCH_X86": "x86",
    "SCMP_ARCH_X86_64": "amd64",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_ARM": "arm",
    "SCMP_ARCH_AARCH64": "arm64",
    "SCMP_ARCH_MIPS": "mips",
    "SCMP_ARCH_MIPS64": "mips64",
    "SCMP_ARCH_MIPS64N32": "mips64n32",
    "SCMP_ARCH_MIPSEL": "mipsel",
    "SCMP_ARCH_MIPSEL64": "mipsel64",
    "SCMP_ARCH_MIPSEL64N32": "mipsel64n32",
    "SCMP_ARCH_PPC": "ppc",
    "SCMP_ARCH_PPC64": "ppc64",
    "SCMP_ARCH_PPC64LE": "ppc64le",
    "SCMP_ARCH_S390": "s390",
    "SCMP_ARCH_S390X": "s390x",
}
_RESOURCE_FIELDS = (
    ("memory", "memory", "limit", 0),
    ("memory_reservation", "memory", "reservation", 0),
    ("memory_swap", "memory", "swap", 0),
    ("cpu_shares", "cpu", "shares", 0),
    ("cpu_quota", "cpu", "quota", 0),
    ("cpu_period", "cpu", "period", 0),
    ("cpu_rt_quota", "cpu", "realtimeRuntime", 0),
    ("cpu_rt_period", "cpu", "realtimePeriod", 0),
    ("cpuset_cpus", "cpu", "cpus", ""),
    ("cpuset_mems", "cpu", "mems", ""),
    ("pids_limit", "pids", "limit", 0),
    ("blkio_weight", "blockIO", "weight", 0),
    ("blkio_leaf_weight", "blockIO", "leafWeight", 0),
    ("oom_kill_disable", "memory", "disableOOMKiller", False),
    ("memory_swappiness", "memory", "swappiness", None),
    ("net_cls_classid_u", "network", "classID", 0),
)
# Limits that the kernel takes only together, or that one of them decides what the other means.
_TOGETHER = (
    ("cpu", "quota", "period"),
    ("cpu", "realtimeRuntime", "realtimePeriod"),
    ("memory", "limit", "swap"),
)
_SCHEDULING_FIELDS = (("scheduler", "scheduler"), ("io_priority", "ioPriority"))
_THROTTLES = (
    ("blkio_throttle_read_bps_device", "throttleReadBpsDevice"),
    ("blkio_throttle_write_bps_device", "throttleWriteBpsDevice"),
    ("blkio_throttle_read_iops_device", "throttleReadIOPSDevice"),
    ("blkio_throttle_write_iops_device", "throttleWriteIOPSDevice"),
)


def to_runc(config: Config) -> dict[str, Any]:
    """A Config as the `config` of state.json."""
    process = config.process
    capabilities = process.capabilities or {}
    document: dict[str, Any] = {
        "no_pivot_root": config.no_pivot,
        "parent_death_signal": 0,
        "rootfs": config.rootfs,
        "umask": process.umask,
        "readonlyfs": config.root_readonly,
        "rootPropagation": config.rootfs_propagation,
        "mounts": [_mount(entry) for entry in config.mounts],
        "devices": [_device(item) for item in config.devices],
        "mount_label": "",
        "hostname": config.hostname,
        "namespaces": [{"type": _NAMESPACES[kind], "path": path} for kind, path in config.namespaces.items()],
        "capabilities": {
            name.capitalize(): capabilities.get(name) or None
            for name in ("bounding", "effective", "inheritable", "permitted", "ambient")
        }
        if process.capabilities is not None
        else None,
        "networks": [_LOOPBACK] if config.creates("network") else None,
        "routes": None,
        "cgroups": _cgroups(config),
        "uid_mappings": _mappings(config.uid_mappings),
        "gid_mappings": _mappings(config.gid_mappings),
        "mask_paths": config.masked_paths,
        "readonly_paths": config.readonly_paths,
        "sysctl": config.sysctl or None,
        "seccomp": _seccomp(config.seccomp),
        "no_new_privileges": process.no_new_privileges,
        "Hooks": {
            name: [_hook(hook) for hook in config.hooks.get(name, [])] or None for name in sorted(HOOKS)
        },
        "version": config.oci_version,
        "labels": config.labels(),
        "no_new_keyring": config.no_new_keyring,
    }
    if process.oom_score_adj is not None:
        document["oom_score_adj"] = process.oom_score_adj
    if process.apparmor_profile:
        document["apparmor_profile"] = process.apparmor_profile
    _newer(config, document)
    return document


def _newer(config: Config, document: dict[str, Any]) -> None:
    """What runc 1.2 and later know; 1.1 passes over it."""
    process = config.process
    if process.scheduling is not None:
        for name, key in _SCHEDULING_FIELDS:
            if key in process.scheduling.raw:
                document[name] = process.scheduling.raw[key]
    if process.exec_affinity is not None:
        document["exec_cpu_affinity"] = process.exec_affinity.stored()
    if config.memory_policy is not None:
        document["memory_policy"] = config.memory_policy.stored()
    if config.intel_rdt is not None:
        from pycontainerd.runtime.libcontainer.intelrdt import to_runc as rdt_to_runc

        document["intel_rdt"] = rdt_to_runc(config.intel_rdt)
    if config.net_devices:
        document["netDevices"] = {
            name: {} if name == inside else {"name": inside} for name, inside in config.net_devices.items()
        }


def scheduling_of(document: dict[str, Any]) -> dict[str, Any]:
    """The scheduling of a stored config in the words of `process` in config.json: what an exec has without its own."""
    found = {key: document[name] for name, key in _SCHEDULING_FIELDS if document.get(name)}
    if document.get("exec_cpu_affinity"):
        from pycontainerd.runtime.libcontainer.scheduling import stored_affinity

        found["execCPUAffinity"] = stored_affinity(document["exec_cpu_affinity"])
    return found


_LOOPBACK = {
    "type": "loopback",
    "name": "",
    "bridge": "",
    "mac_address": "",
    "address": "",
    "gateway": "",
    "ipv6_address": "",
    "ipv6_gateway": "",
    "mtu": 0,
    "txqueuelen": 0,
    "host_interface_name": "",
    "hairpin_mode": False,
}


def _mount(entry: Mount) -> dict[str, Any]:
    options = entry.options
    recursive = None
    if options.attr_set or options.attr_clr:
        recursive = {
            "Attr_set": options.attr_set,
            "Attr_clr": options.attr_clr,
            "Propagation": 0,
            "Userns_fd": 0,
        }
    document = {
        "source": entry.source,
        "destination": entry.destination,
        "device": entry.fstype,
        "flags": options.flags,
        "propagation_flags": options.propagation or None,
        "data": ",".join(options.data),
        "relabel": "",
        "rec_attr": recursive,
        "extensions": options.extensions,
        "premount_cmds": None,
        "postmount_cmds": None,
    }
    if entry.is_id_mapped:
        fields = (
            ("recursive", entry.options.id_map or None),
            ("userns_path", entry.userns_path),
            ("uid_mappings", _mappings(entry.uid_mappings)),
            ("gid_mappings", _mappings(entry.gid_mappings)),
        )
        document["id_mapping"] = {name: value for name, value in fields if value}
    return document


def _device(item: Any) -> dict[str, Any]:
    return {
        "type": ord(item.kind),
        "major": item.major,
        "minor": item.minor,
        "permissions": "rwm",
        "allow": True,
        "path": item.path,
        "file_mode": item.mode,
        "uid": item.uid,
        "gid": item.gid,
    }


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": ord(rule.get("type") or "a"),
        "major": rule.get("major", -1),
        "minor": rule.get("minor", -1),
        "permissions": rule.get("access") or "rwm",
        "allow": rule.get("allow", False),
    }


def _cgroups(config: Config) -> dict[str, Any]:
    resources = config.resources
    rules = [*resources.get("devices", []), *DEFAULT_RULES]
    block = resources.get("blockIO", {})
    document: dict[str, Any] = {} if config.cgroups_path else {"name": config.id}
    path, prefix = config.cgroups_path, ""
    if config.systemd_cgroup:
        parent, prefix, name = path.split(":") if path else ("", "runc", config.id)
        document, path = {"name": name, "parent": parent}, ""
    document.update(
        path=path,
        scope_prefix=prefix,
        devices=[_rule(rule) for rule in rules],
        **{
            name: resources.get(group, {}).get(key, default) for name, group, key, default in _RESOURCE_FIELDS
        },
        blkio_weight_device=[
            {
                "major": item.get("major", 0),
                "minor": item.get("minor", 0),
                "weight": item.get("weight", 0),
                "leafWeight": item.get("leafWeight", 0),
            }
            for item in block.get("weightDevice", [])
        ]
        or None,
        **{name: block.get(key) or None for name, key in _THROTTLES},
        freezer="",
        hugetlb_limit=[
            {"page_size": item.get("pageSize", ""), "limit": item.get("limit", 0)}
            for item in resources.get("hugepageLimits", [])
        ]
        or None,
        net_prio_ifpriomap=[
            {"interface": item.get("name", ""), "priority": item.get("priority", 0)}
            for item in resources.get("network", {}).get("priorities", [])
        ]
        or None,
        rdma={
            name: {
                key: item[word]
                for key, word in (("hca_handles", "hcaHandles"), ("hca_objects", "hcaObjects"))
                if word in item
            }
            for name, item in resources.get("rdma", {}).items()
        }
        or None,
        cpu_weight=shares_to_weight(resources.get("cpu", {}).get("shares", 0)),
        unified=resources.get("unified"),
        Systemd=config.systemd_cgroup,
        Rootless=False,
    )
    return document


def unit_of(document: dict[str, Any]) -> tuple[str, str, str] | None:
    """(slice, prefix, name) of the systemd unit of a stored config; None when its cgroups are not systemd's."""
    cgroups = document.get("cgroups") or {}
    if not cgroups.get("Systemd"):
        return None
    return cgroups.get("parent", ""), cgroups.get("scope_prefix", ""), cgroups.get("name", "")


def shares_to_weight(shares: int) -> int:
    """cpu.shares of version 1 as cpu.weight of version 2, by runc 1.1's straight line; 0 stays unset."""
    return 0 if shares == 0 else 1 + ((shares - 2) * 9999) // 262142


def _mappings(mappings: list[IDMapping]) -> list[dict[str, int]] | None:
    return [
        {"container_id": item.container_id, "host_id": item.host_id, "size": item.size} for item in mappings
    ] or None


def _hook(hook: dict[str, Any]) -> dict[str, Any]:
    timeout = hook.get("timeout")
    return {
        "path": hook["path"],
        "args": hook.get("args"),
        "env": hook.get("env"),
        "dir": "",
        "timeout": timeout * 1_000_000_000 if timeout else None,
    }


def hooks_of(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """One kind of hook of a stored config, in config.json's words."""
    return [
        {
            "path": hook["path"],
            "args": hook.get("args") or [],
            "env": hook.get("env") or [],
            **({"timeout": hook["timeout"] / 1e9} if hook.get("timeout") else {}),
        }
        for hook in (document.get("Hooks") or {}).get(kind) or []
    ]


def capabilities_of(document: dict[str, Any]) -> dict[str, list[str]]:
    """The capability sets of a stored config."""
    stored = document.get("capabilities") or {}
    return {name: stored.get(name.capitalize()) or [] for name in CAPABILITY_SETS}


def _seccomp(seccomp: dict[str, Any] | None) -> dict[str, Any] | None:
    if seccomp is None:
        return None
    document: dict[str, Any] = {
        "default_action": _place(_ACTIONS, seccomp.get("defaultAction", ""), "action"),
        "architectures": [_ARCHES.get(name, name) for name in seccomp.get("architectures", [])],
    }
    if seccomp.get("flags"):
        document["flags"] = seccomp["flags"]
    document["syscalls"] = [
        {
            "name": name,
            "action": _place(_ACTIONS, rule.get("action", ""), "action"),
            "errnoRet": rule.get("errnoRet"),
            "args": [
                {
                    "index": item.get("index", 0),
                    "value": item.get("value", 0),
                    "value_two": item.get("valueTwo", 0),
                    "op": _place(_OPERATORS, item.get("op", ""), "operator"),
                }
                for item in rule.get("args", [])
            ],
        }
        for rule in seccomp.get("syscalls", [])
        for name in rule.get("names", [])
    ]
    document["default_errno_ret"] = seccomp.get("defaultErrnoRet")
    if seccomp.get("listenerPath"):
        document["listener_path"] = seccomp["listenerPath"]
        document["listener_metadata"] = seccomp.get("listenerMetadata", "")
    return document


def _place(names: tuple[str, ...], name: str, what: str) -> int:
    """runc's number of a word of seccomp's; InvalidArgument, in its words, for one that isn't."""
    if name not in names[1:]:
        raise InvalidArgument(f"string {name} is not a valid {what} for seccomp")
    return names.index(name)


def seccomp_of(document: dict[str, Any]) -> dict[str, Any] | None:
    """The filter of a stored config, in config.json's words."""
    stored = document.get("seccomp")
    if not stored:
        return None
    arches = {short: name for name, short in _ARCHES.items()}
    found: dict[str, Any] = {
        "defaultAction": _ACTIONS[stored["default_action"]],
        "architectures": [arches.get(name, name) for name in stored.get("architectures") or []],
        "flags": stored.get("flags") or [],
        "syscalls": [_rule_of(rule) for rule in stored.get("syscalls") or []],
    }
    if stored.get("default_errno_ret") is not None:
        found["defaultErrnoRet"] = stored["default_errno_ret"]
    if stored.get("listener_path"):
        found["listenerPath"] = stored["listener_path"]
        found["listenerMetadata"] = stored.get("listener_metadata", "")
    return found


def _rule_of(rule: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "names": [rule["name"]],
        "action": _ACTIONS[rule["action"]],
        "args": [
            {
                "index": item["index"],
                "value": item["value"],
                "valueTwo": item.get("value_two", 0),
                "op": _OPERATORS[item["op"]],
            }
            for item in rule.get("args") or []
        ],
    }
    if rule.get("errnoRet") is not None:
        found["errnoRet"] = rule["errnoRet"]
    return found


def complete(document: dict[str, Any], resources: dict[str, Any]) -> dict[str, Any]:
    """An update with the stored limits that those it names depend on."""
    stored = document.get("cgroups") or {}
    names = {(group, key): name for name, group, key, _default in _RESOURCE_FIELDS}
    found = dict(resources)
    for group, *keys in _TOGETHER:
        given = resources.get(group, {})
        # Unlimited memory without a word on swap means swap, too.
        if not set(keys) & set(given) or given.get("limit") == -1:
            continue
        kept = {key: stored[names[group, key]] for key in keys if stored.get(names[group, key])}
        found[group] = {**kept, **found[group]}
    return found


def store_resources(document: dict[str, Any], resources: dict[str, Any]) -> None:
    """Puts updated limits into a stored config; what the update doesn't name stays."""
    cgroups = document.setdefault("cgroups", {})
    for name, group, key, _default in _RESOURCE_FIELDS:
        if key in resources.get(group, {}):
            cgroups[name] = resources[group][key]
    if "shares" in resources.get("cpu", {}):
        cgroups["cpu_weight"] = shares_to_weight(resources["cpu"]["shares"])
