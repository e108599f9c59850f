"""The command line as a table: commands, their flags and arguments; help, completion and parsing all read it.

Man:  runc(8) and its sub-pages (same names, same defaults)
"""

from __future__ import annotations

BOOL, STRING, INT, LIST, DURATION = "bool", "string", "int", "list", "duration"


class Flag:
    """One flag; `default` decides what an absent one reads as."""

    __slots__ = ("alias", "default", "hidden", "kind", "name", "usage")

    def __init__(
        self,
        name: str,
        alias: str,
        kind: str,
        usage: str,
        default: str | int = "",
        *,
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.alias = alias
        self.kind = kind
        self.usage = usage
        self.default = default
        self.hidden = hidden  # taken, and shown nowhere


class Command:
    """One command. `args` is (rule, count), the rule `exactly` or `min`; "" checks nothing."""

    __slots__ = ("args", "arguments", "description", "flags", "name", "usage")

    def __init__(
        self,
        name: str,
        usage: str,
        arguments: str,
        args: tuple[str, int],
        flags: tuple[Flag, ...] = (),
        description: str = "",
    ) -> None:
        self.name = name
        self.usage = usage
        self.arguments = arguments
        self.args = args
        self.flags = flags
        self.description = description


GLOBAL = (
    Flag("debug", "", BOOL, "enable debug logging"),
    Flag("log", "", STRING, "set the log file to write runc logs to (default is '/dev/stderr')"),
    Flag("log-format", "", STRING, "set the log format ('text' (default), or 'json')", "text"),
    Flag(
        "root", "", STRING, "root directory for storage of container state (this should be located in tmpfs)"
    ),
    Flag("criu", "", STRING, "path to the criu binary; not used, see checkpoint", "criu"),
    Flag("systemd-cgroup", "", BOOL, "enable systemd cgroup support, cgroupsPath is then slice:prefix:name"),
    Flag("rootless", "", STRING, "ignore cgroup permission errors ('true', 'false', or 'auto')", "auto"),
)

_BUNDLE = Flag(
    "bundle", "b", STRING, "path to the root of the bundle directory, defaults to the current directory"
)
_CONSOLE = Flag("console-socket", "", STRING, "AF_UNIX socket that receives the master end of the terminal")
_PIDFD = Flag("pidfd-socket", "", STRING, "AF_UNIX socket that receives a pidfd of the process")
_PID_FILE = Flag("pid-file", "", STRING, "specify the file to write the process id to")
_PRESERVE = Flag(
    "preserve-fds", "", INT, "pass N additional descriptors (stdio + $LISTEN_FDS + N in total)", 0
)
_NO_PIVOT = Flag("no-pivot", "", BOOL, "move the root instead of pivot_root, for a rootfs on a ramdisk")
_NO_KEYRING = Flag("no-new-keyring", "", BOOL, "keep the caller's session keyring")
_DETACH = Flag("detach", "d", BOOL, "detach from the container's process")
_FORMAT = Flag("format", "f", STRING, "select one of: table or json", "table")

_ID = "<container-id>"
_ONE = ("exactly", 1)

# What checkpoint and restore share: they are taken so that a caller of runc gets one answer, not a usage error.
_CRIU = (
    Flag("tcp-established", "", BOOL, "allow open tcp connections"),
    Flag("ext-unix-sk", "", BOOL, "allow external unix sockets"),
    Flag("shell-job", "", BOOL, "allow shell jobs"),
    Flag("lazy-pages", "", BOOL, "use userfaultfd to lazily restore memory pages"),
    Flag("file-locks", "", BOOL, "handle file locks"),
    Flag("manage-cgroups-mode", "", STRING, "cgroups mode: soft, full, strict or ignore"),
    Flag("empty-ns", "", LIST, "create a namespace, but don't restore its properties"),
    Flag("auto-dedup", "", BOOL, "remove duplicate pages of memory images"),
)
_NOT_SUPPORTED = "Not supported here: it always fails and changes nothing."

COMMANDS = (
    Command(
        "checkpoint",
        "checkpoint a running container",
        f"[command options] {_ID}",
        _ONE,
        (
            Flag("image-path", "", STRING, "path for saving criu image files"),
            Flag("work-path", "", STRING, "path for saving work files and logs"),
            Flag("parent-path", "", STRING, "path for previous criu image files in pre-dump"),
            Flag("leave-running", "", BOOL, "leave the process running after checkpointing"),
            Flag("tcp-skip-in-flight", "", BOOL, "skip in-flight tcp connections"),
            Flag("link-remap", "", BOOL, "link unlinked files back when possible"),
            Flag("status-fd", "", INT, "descriptor that is told when lazy-pages is ready", -1),
            Flag("page-server", "", STRING, "ADDRESS:PORT of the page server"),
            Flag("pre-dump", "", BOOL, "dump the container's memory only and leave it running"),
            *_CRIU,
        ),
        _NOT_SUPPORTED,
    ),
    Command(
        "create",
        "create a container",
        f"[command options] {_ID}",
        _ONE,
        (_BUNDLE, _CONSOLE, _PIDFD, _PID_FILE, _NO_PIVOT, _NO_KEYRING, _PRESERVE),
        "Makes a container from a bundle (config.json and a root filesystem); its process waits for `start`.",
    ),
    Command(
        "delete",
        "delete any resources held by the container often used with detached container",
        f"[command options] {_ID}",
        _ONE,
        (Flag("force", "f", BOOL, "delete the container even if it is still running (uses SIGKILL)"),),
    ),
    Command(
        "events",
        "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
        f"[command options] {_ID}",
        _ONE,
        (
            Flag("interval", "", DURATION, "set the stats collection interval", "5s"),
            Flag("stats", "", BOOL, "display the container's stats then exit"),
        ),
    ),
    Command(
        "exec",
        "execute new process inside the container",
        f"[command options] {_ID} <command> [command options]  || -p process.json {_ID}",
        ("min", 1),
        (
            _CONSOLE,
            _PIDFD,
            Flag("cwd", "", STRING, "current working directory in the container"),
            Flag("env", "e", LIST, "set environment variables"),
            Flag("tty", "t", BOOL, "allocate a pseudo-TTY"),
            Flag("user", "u", STRING, "UID (format: <uid>[:<gid>])"),
            Flag("additional-gids", "g", LIST, "additional gids"),
            Flag("process", "p", STRING, "path to the process.json"),
            _DETACH,
            _PID_FILE,
            Flag("process-label", "", STRING, "set the asm process label for the process, used with selinux"),
            Flag("apparmor", "", STRING, "set the apparmor profile for the process"),
            Flag("no-new-privs", "", BOOL, "set the no new privileges value for the process"),
            Flag("cap", "c", LIST, "add a capability to the bounding set for the process"),
            _PRESERVE,
            Flag("cgroup", "", LIST, "run the process in an existing sub-cgroup: [<controller>:]<cgroup>"),
            Flag("ignore-paused", "", BOOL, "allow exec in a paused container"),
        ),
    ),
    Command("features", "show the enabled features", "[arguments...]", ("exactly", 0)),
    Command(
        "kill",
        "kill sends the specified signal (default: SIGTERM) to the container's init process",
        f"[command options] {_ID} [signal]",
        ("min", 1),
        (Flag("all", "a", BOOL, "send the specified signal to all processes inside the container"),),
        "A signal is a number, or a name with or without SIG.",
    ),
    Command(
        "list",
        "lists containers started by runc with the given root",
        "[command options]",
        ("exactly", 0),
        (_FORMAT, Flag("quiet", "q", BOOL, "display only container IDs")),
    ),
    Command("pause", "pause suspends all processes inside the container", _ID, _ONE),
    Command(
        "ps",
        "ps displays the processes running inside a container",
        f"[command options] {_ID} [ps options]",
        ("min", 1),
        (_FORMAT,),
    ),
    Command(
        "restore",
        "restore a container from a previous checkpoint",
        f"[command options] {_ID}",
        _ONE,
        (
            _BUNDLE,
            _CONSOLE,
            _DETACH,
            _PID_FILE,
            Flag("no-subreaper", "", BOOL, "don't adopt the container's orphaned processes"),
            _NO_PIVOT,
            Flag("image-path", "", STRING, "path to criu image files for restoring"),
            Flag("work-path", "", STRING, "path for saving work files and logs"),
            Flag("lsm-profile", "", STRING, "LSM profile to use after the restore, as TYPE:NAME"),
            Flag("lsm-mount-context", "", STRING, "LSM mount context to use during the restore"),
            *_CRIU,
        ),
        _NOT_SUPPORTED,
    ),
    Command("resume", "resumes all processes that have been previously paused", _ID, _ONE),
    Command(
        "run",
        "create and run a container",
        f"[command options] {_ID}",
        _ONE,
        (
            _BUNDLE,
            _CONSOLE,
            _PIDFD,
            _DETACH,
            Flag("keep", "", BOOL, "do not delete the container after it exits"),
            _PID_FILE,
            Flag("no-subreaper", "", BOOL, "don't adopt the container's orphaned processes"),
            _NO_PIVOT,
            _NO_KEYRING,
            _PRESERVE,
        ),
        "Makes a container from a bundle, starts it, waits for it and takes its exit status.",
    ),
    Command(
        "spec",
        "create a new specification file",
        "[command options] [arguments...]",
        ("exactly", 0),
        (
            Flag("bundle", "b", STRING, "path to the root of the bundle directory"),
            Flag("rootless", "", BOOL, "generate a configuration for a rootless container"),
        ),
        "Writes a config.json to start from.",
    ),
    Command("start", "executes the user defined process in a created container", _ID, _ONE),
    Command("state", "output the state of a container", _ID, _ONE),
    Command(
        "update",
        "update container resource constraints",
        f"[command options] {_ID}",
        _ONE,
        (
            Flag(
                "resources",
                "r",
                STRING,
                "file with the resources to update as JSON, or '-' for standard input",
            ),
            Flag("blkio-weight", "", INT, "relative block IO weight, 10 to 1000", 0),
            Flag("cpu-period", "", STRING, "CPU CFS period in microseconds; 0 is the system's default"),
            Flag("cpu-quota", "", STRING, "CPU CFS hard limit in microseconds a period"),
            Flag("cpu-burst", "", STRING, "CPU CFS hard limit that may be saved up, in microseconds"),
            Flag(
                "cpu-idle", "", STRING, "1 makes the container run only when nothing else wants to, 0 ends it"
            ),
            Flag("cpu-share", "", STRING, "CPU shares (relative weight vs. other containers)"),
            Flag(
                "cpu-rt-period", "", STRING, "CPU realtime period in microseconds; 0 is the system's default"
            ),
            Flag("cpu-rt-runtime", "", STRING, "CPU realtime hard limit in microseconds a period"),
            Flag("cpuset-cpus", "", STRING, "CPU(s) to use"),
            Flag("cpuset-mems", "", STRING, "Memory node(s) to use"),
            Flag("kernel-memory", "", STRING, "obsolete", hidden=True),
            Flag("kernel-memory-tcp", "", STRING, "obsolete", hidden=True),
            Flag("memory", "", STRING, "Memory limit (in bytes)"),
            Flag("memory-reservation", "", STRING, "Memory reservation or soft_limit (in bytes)"),
            Flag("memory-swap", "", STRING, "memory plus swap in bytes; -1 is unlimited swap"),
            Flag("pids-limit", "", INT, "maximum number of processes in the container", 0),
            Flag("l3-cache-schema", "", STRING, "Intel RDT/CAT L3 cache schema"),
            Flag("mem-bw-schema", "", STRING, "Intel RDT/MBA memory bandwidth schema"),
        ),
        "With --resources all other flags are ignored.",
    ),
    Command("completion", "print a completion script", "bash|zsh|fish", ("exactly", 1)),
    Command("help", "Shows a list of commands or help for one command", "[command]", ("", 0)),
)


def find(name: str) -> Command | None:
    """The command of that name; `h` is help."""
    wanted = "help" if name == "h" else name
    for command in COMMANDS:
        if command.name == wanted:
            return command
    return None
