"""The root of the command tree: global flags, and each noun with the module that holds its commands."""

from __future__ import annotations

from pycontainerd.ctr.command import Group
from pycontainerd.ctr.flags import BOOL, DURATION, STRING, Flag

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

DEFAULT_ADDRESS: Final = "/run/pycontainerd/pycontainerd.sock"

FLAGS: Final = (
    Flag("debug", BOOL, "print debug messages and where errors came from"),
    Flag("address, a", STRING, "socket of the daemon", default=DEFAULT_ADDRESS, env="CONTAINERD_ADDRESS"),
    Flag("timeout", DURATION, "give up on the whole command after this time"),
    Flag("connect-timeout", DURATION, "give up on connecting after this time"),
    Flag("namespace, n", STRING, "containerd namespace", default="default", env="CONTAINERD_NAMESPACE"),
)
COMMON_FLAGS: Final = (
    Flag("help, h", BOOL, "show help"),
    Flag("version, v", BOOL, "print the version"),
)
GROUP_HELP: Final = (Flag("help, h", BOOL, "show help"),)

GROUPS: Final = (
    Group("plugins, plugin", "show what the daemon is built from", "plugins"),
    Group("info", "print who the daemon is, as JSON", "info"),
    Group("deprecations", "what the daemon was asked for that will go away", "deprecations"),
    Group("version", "print the versions of client and daemon", "version"),
    Group("containers, c, container", "containers: records of what to run", "containers"),
    Group("content", "the content store: blobs by digest", "content"),
    Group("events, event", "print what happens in the daemon, as it happens", "events"),
    Group("images, image, i", "images: names of content to run", "images"),
    Group("leases", "leases: what the garbage collector must keep", "leases"),
    Group("namespaces, namespace, ns", "namespaces: each has its own containers and images", "namespaces"),
    Group("sandboxes, sandbox, sb, s", "sandboxes: what containers share, and its shim", "sandboxes"),
    Group("run", "run a container", "run"),
    Group("snapshots, snapshot", "snapshots: root filesystems and the layers under them", "snapshots"),
    Group("tasks, t, task", "tasks: the processes of containers", "tasks"),
    Group("oci", "OCI documents", "oci"),
    Group("install", "take programs out of an image", "install"),
    Group("pprof", "what the daemon's debug socket tells", "pprof"),
    Group("logs", "print what a task wrote to its log file", "logs"),
    Group("shims", "list the shims of the daemon", "shims"),
    Group("completion", "print a script that completes command lines", "completion"),
    Group("shim", "talk to a container's shim directly", "shim"),
)
