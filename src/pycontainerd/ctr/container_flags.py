"""The flags that describe a container, shared by `run` and `containers create`."""

from __future__ import annotations

from pycontainerd.ctr.flags import BOOL, FLOAT, INT, INTS, STRING, STRINGS, UINT, Flag
from pycontainerd.ctr.text import SNAPSHOTTER_FLAG, SYNC_FS_FLAG

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

DEFAULT_RUNTIME: Final = "io.containerd.runc.v2"

IO_FLAGS: Final = (
    Flag("null-io", BOOL, "send all output to /dev/null"),
    Flag("log-uri", STRING, "where the shim writes output: file:///path or binary:///path"),
    Flag("fifo-dir", STRING, "folder for the FIFOs of stdio"),
)
PID_FILE: Final = Flag("pid-file", STRING, "file to write the task's pid to")
DETACH: Final = Flag("detach, d", BOOL, "leave the container running")

RUNTIME_FLAGS: Final = (
    Flag("runtime", STRING, "runtime name, or absolute path of a shim", default=DEFAULT_RUNTIME),
    Flag("runtime-config-path", STRING, "configuration file for a runtime other than runc"),
    Flag("runc-binary", STRING, "run this runc-compatible program"),
    Flag("runc-root", STRING, "state folder of the runc-compatible program"),
    Flag("runc-systemd-cgroup", BOOL, "let systemd manage the cgroup"),
)
CONTAINER_FLAGS: Final = (
    SNAPSHOTTER_FLAG,
    Flag("snapshotter-label", STRINGS, "label of the container's snapshot (key=value)"),
    Flag("config, c", STRING, "take the whole config.json from this file"),
    Flag("cwd", STRING, "working directory of the process"),
    Flag("env", STRINGS, "environment variable (FOO=bar)"),
    Flag("env-file", STRING, "file of environment variables, one to a line"),
    Flag("label", STRINGS, "label of the container (key=value)"),
    Flag("annotation", STRINGS, "OCI annotation (key=value)"),
    Flag("mount", STRINGS, "mount to add (type=bind,src=/tmp,dst=/host,options=rbind:ro)"),
    Flag("net-host", BOOL, "use the host's network"),
    Flag("privileged", BOOL, "every capability, every device, nothing masked"),
    Flag("read-only", BOOL, "make the root file system read-only"),
    *RUNTIME_FLAGS[:2],
    Flag("sandbox", STRING, "make the container in this sandbox"),
    Flag("tty, t", BOOL, "give the process a terminal"),
    Flag("with-ns", STRINGS, "join an existing namespace (type:path)"),
    PID_FILE,
    Flag("gpus", INTS, "GPU to add, by index"),
    Flag("allow-new-privs", BOOL, "don't set no_new_privs"),
    Flag("memory-limit", UINT, "memory limit in bytes"),
    Flag(
        "device",
        STRINGS,
        "device node of the host, a folder of them, or a CDI device (vendor/class=name), to add",
    ),
    Flag("cap-add", STRINGS, "capability to add (CAP_...)"),
    Flag("cap-drop", STRINGS, "capability to drop (CAP_...)"),
    Flag("seccomp", BOOL, "filter system calls by the default profile"),
    Flag("seccomp-profile", STRING, "filter by the profile in this file; needs --seccomp"),
    Flag("apparmor-default-profile", STRING, "load containerd's AppArmor profile under this name and use it"),
    Flag("apparmor-profile", STRING, "use this loaded AppArmor profile"),
    Flag("blockio-config-file", STRING, "file of block I/O classes"),
    Flag("blockio-class", STRING, "block I/O class of the file to put the container into"),
    Flag("rdt-class", STRING, "RDT class of service"),
    Flag("rootfs", BOOL, "the first argument is a folder to use as root"),
    Flag("no-pivot", BOOL, "don't use pivot_root"),
    Flag("cpu-quota", INT, "CPU time per period in microseconds", default=-1),
    Flag("cpu-period", UINT, "length of the CPU period in microseconds"),
    Flag("rootfs-propagation", STRING, "mount propagation of the root"),
    Flag("hostname", STRING, "the container's host name"),
    Flag("user, u", STRING, "user of the process: name or uid, [:group or gid]"),
    *RUNTIME_FLAGS[2:],
)

RUN_FLAGS: Final = (
    Flag("rm", BOOL, "remove the container afterwards; not with --detach"),
    *IO_FLAGS,
    DETACH,
    Flag("cgroup", STRING, 'cgroup path; "" for none'),
    Flag("platform", STRING, "run the image for this platform"),
    Flag("cni", BOOL, "set up a network by CNI"),
    Flag("uidmap", STRINGS, "map user ids (`container-uid:host-uid:length`)"),
    Flag("gidmap", STRINGS, "map group ids (`container-gid:host-gid:length`)"),
    Flag("remap-labels", BOOL, "let the snapshotter shift the ids (by labels)"),
    Flag("cpus", FLOAT, "CPUs to use, as a number"),
    Flag("cpu-shares", INT, "share of CPU time", default=1024),
    Flag("cpuset-cpus", STRING, "CPUs to use, as a list"),
    Flag("cpuset-mems", STRING, "memory nodes to use, as a list"),
    Flag("rlimit-nofile", STRING, "open files: soft:hard"),
    Flag("privileged-without-host-devices", BOOL, "with --privileged: don't give it the host's devices"),
    Flag("dump-config", STRING, "write the container's config.json to this file"),
    SYNC_FS_FLAG,
    Flag("trace", BOOL, "print the tree of steps with their times afterwards"),
    *CONTAINER_FLAGS,
)
