"""Documents with one field left out, of another type or out of range, and a container's config that uses most fields."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.bundle import BundleBuilder

    Path = tuple[str | int, ...]

LEFT_OUT = object()
VALUES: tuple[Any, ...] = (LEFT_OUT, None, "", "x", 5, -1, [], {}, True, 2**64, "/x")


def mutations(document: Any, but: tuple[Path, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(what was changed, the document with that), one change at a time, at every place but those."""
    for path in _paths(document):
        if path in but:
            continue
        for value in VALUES:
            changed = copy.deepcopy(document)
            place = changed
            for step in path[:-1]:
                place = place[step]
            if value is LEFT_OUT:
                place.pop(path[-1])
            else:
                place[path[-1]] = value
            shown = "left out" if value is LEFT_OUT else repr(value)
            yield f"{'.'.join(map(str, path))}: {shown}", changed


def _paths(document: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(document, (dict, list)):
        for key in document if isinstance(document, dict) else range(len(document)):
            yield (*path, key)
            yield from _paths(document[key], (*path, key))


def fill(bundle: BundleBuilder, source: str) -> dict[str, Any]:
    """The bundle's config with most of what the specification has for Linux, each of a value that is right; `source` is a folder."""
    hook = {"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}
    rule = {
        "names": ["mkdir"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 1,
        "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}],
    }
    bundle.args("/bin/true").writable()
    bundle.mount("/mnt", "bind", source, "rbind", "ro", "nosuid", "rprivate")
    bundle.mount("/tmp", "tmpfs", "tmpfs", "size=64k", "mode=755")
    bundle.process.update(
        user={"uid": 0, "gid": 0, "umask": 18, "additionalGids": [5]},
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 1024}],
        oomScoreAdj=100,
        consoleSize={"height": 1, "width": 2},
        ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 4},
        scheduler={"policy": "SCHED_OTHER", "nice": 1},
        execCPUAffinity={"initial": "0", "final": "0"},
    )
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    bundle.spec.update(
        hostname="h",
        domainname="d",
        annotations={"a": "b"},
        hooks={kind: [copy.deepcopy(hook)] for kind in kinds},
    )
    bundle.linux.update(
        sysctl={"net.ipv4.ip_forward": "1"},
        rootfsPropagation="slave",
        personality={"domain": "LINUX"},
        memoryPolicy={"mode": "MPOL_DEFAULT"},
        devices=[
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}
        ],
        resources={
            "devices": [
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            ],
            "memory": {"limit": 100 << 20, "reservation": 50 << 20},
            "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 50},
            "blockIO": {"weightDevice": [], "throttleReadBpsDevice": []},
            "hugepageLimits": [],
            "network": {"priorities": []},
            "unified": {},
        },
        seccomp={
            "defaultAction": "SCMP_ACT_ALLOW",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [rule],
        },
    )
    return bundle.spec
