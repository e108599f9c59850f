"""config.json: reading it, and checking every type and range against the runtime-spec's schema.

Spec: runtime-spec config.md, config-linux.md, schema/config-schema.json
"""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.oci.document import DocumentError, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = "1.0.2-dev"

I32, I64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
U16, U32, U64 = (0, 2**16 - 1), (0, 2**32 - 1), (0, 2**64 - 1)
S, B, ANY = "string", "bool", "any"

_HOOK = {"path": S, "args": [S], "env": [S], "timeout": I64}
_ID_MAP = {"containerID": U32, "hostID": U32, "size": U32}
_WEIGHT = {"major": I64, "minor": I64, "weight": U16, "leafWeight": U16}
_THROTTLE = {"major": I64, "minor": I64, "rate": U64}
_DEVICE_RULE = {"allow": B, "type": S, "major": I64, "minor": I64, "access": S}

PROCESS: dict[str, Any] = {
    "terminal": B,
    "consoleSize": {"height": U32, "width": U32},
    "user": {"uid": U32, "gid": U32, "umask": U32, "additionalGids": [U32], "username": S},
    "args": [S],
    "commandLine": S,
    "env": [S],
    "cwd": S,
    "capabilities": {name: [S] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")},
    "rlimits": [{"type": S, "hard": U64, "soft": U64}],
    "noNewPrivileges": B,
    "apparmorProfile": S,
    "oomScoreAdj": I32,
    "selinuxLabel": S,
    "ioPriority": {"class": S, "priority": I32},
    "scheduler": {
        "policy": S,
        "nice": I32,
        "priority": I32,
        "flags": [S],
        "runtime": U64,
        "deadline": U64,
        "period": U64,
    },
    "execCPUAffinity": {"initial": S, "final": S},
}

RESOURCES: dict[str, Any] = {
    "unified": {"*": S},
    "devices": [_DEVICE_RULE],
    "memory": {
        "limit": I64,
        "reservation": I64,
        "swap": I64,
        "kernel": I64,
        "kernelTCP": I64,
        "swappiness": U64,
        "disableOOMKiller": B,
        "useHierarchy": B,
        "checkBeforeUpdate": B,
    },
    "cpu": {
        "shares": U64,
        "quota": I64,
        "burst": U64,
        "period": U64,
        "realtimeRuntime": I64,
        "realtimePeriod": U64,
        "cpus": S,
        "mems": S,
        "idle": I64,
    },
    "pids": {"limit": I64},
    "blockIO": {
        "weight": U16,
        "leafWeight": U16,
        "weightDevice": [_WEIGHT],
        "throttleReadBpsDevice": [_THROTTLE],
        "throttleWriteBpsDevice": [_THROTTLE],
        "throttleReadIOPSDevice": [_THROTTLE],
        "throttleWriteIOPSDevice": [_THROTTLE],
    },
    "hugepageLimits": [{"pageSize": S, "limit": U64}],
    "network": {"classID": U32, "priorities": [{"name": S, "priority": U32}]},
    "rdma": {"*": {"hcaHandles": U32, "hcaObjects": U32}},
}

SECCOMP: dict[str, Any] = {
    "defaultAction": S,
    "defaultErrnoRet": U32,
    "architectures": [S],
    "flags": [S],
    "listenerPath": S,
    "listenerMetadata": S,
    "syscalls": [
        {
            "names": [S],
            "action": S,
            "errnoRet": U32,
            "args": [{"index": U32, "value": U64, "valueTwo": U64, "op": S}],
        }
    ],
}

_OFFSET = {"secs": I64, "nanosecs": U32}
LINUX: dict[str, Any] = {
    "uidMappings": [_ID_MAP],
    "gidMappings": [_ID_MAP],
    "sysctl": {"*": S},
    "resources": RESOURCES,
    "cgroupsPath": S,
    "namespaces": [{"type": S, "path": S}],
    "devices": [{"path": S, "type": S, "major": I64, "minor": I64, "fileMode": U32, "uid": U32, "gid": U32}],
    "netDevices": {"*": {"name": S}},
    "seccomp": SECCOMP,
    "rootfsPropagation": S,
    "maskedPaths": [S],
    "readonlyPaths": [S],
    "mountLabel": S,
    "intelRdt": {
        "closID": S,
        "l3CacheSchema": S,
        "memBwSchema": S,
        "schemata": [S],
        "enableMonitoring": B,
        "enableCMT": B,
        "enableMBM": B,
    },
    "memoryPolicy": {"mode": S, "nodes": S, "flags": [S]},
    "personality": {"domain": S, "flags": [S]},
    "timeOffsets": {"monotonic": _OFFSET, "boottime": _OFFSET},
}

SPEC: dict[str, Any] = {
    "ociVersion": S,
    "root": {"path": S, "readonly": B},
    "process": PROCESS,
    "hostname": S,
    "domainname": S,
    "mounts": [
        {
            "destination": S,
            "type": S,
            "source": S,
            "options": [S],
            "uidMappings": [_ID_MAP],
            "gidMappings": [_ID_MAP],
        }
    ],
    "hooks": {
        name: [_HOOK]
        for name in (
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        )
    },
    "annotations": {"*": S},
    "linux": LINUX,
}


def _found(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    for kind, name in ((str, "string"), ((int, float), "number"), (dict, "object"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "null"


def _wrong(path: str, wanted: str, value: Any) -> InvalidArgument:
    return InvalidArgument(f"{path or 'document'}: expected {wanted}, found {_found(value)}")


def checked(value: Any, schema: Any, path: str = "") -> Any:
    """A copy of `value` that has the schema's types; nulls and unknown keys are dropped, as Go's decoder does.

    InvalidArgument names the JSON path of the first value of a wrong type or out of range.
    """
    if schema is S:
        if not isinstance(value, str):
            raise _wrong(path, "string", value)
        if "\0" in value:
            raise InvalidArgument(f"{path}: embedded null byte")
        return value
    if schema is B:
        if not isinstance(value, bool):
            raise _wrong(path, "bool", value)
        return value
    if isinstance(schema, tuple):
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(path, "integer", value)
        if not schema[0] <= value <= schema[1]:
            raise InvalidArgument(f"{path}: {value} is out of range {schema[0]}..{schema[1]}")
        return value
    if isinstance(schema, list):
        if not isinstance(value, list):
            raise _wrong(path, "array", value)
        return [checked(item, schema[0], f"{path}[{at}]") for at, item in enumerate(value)]
    return _checked_object(value, schema, path)


def _checked_object(value: Any, schema: dict[str, Any], path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(path, "object", value)
    prefix = f"{path}." if path else ""
    every = schema.get("*")
    out = {}
    for key, item in value.items():
        wanted = every if every is not None else schema.get(key)
        if item is not None and wanted is not None:
            out[key] = checked(item, wanted, prefix + key)
    return out


def parse(data: bytes, schema: dict[str, Any] = SPEC) -> dict[str, Any]:
    """A document (a Spec unless another schema is given) from its bytes; InvalidArgument when it isn't one."""
    try:
        value = loads(data)
    except DocumentError as error:
        raise InvalidArgument(str(error)) from error
    found: dict[str, Any] = checked(value, schema)
    return found
