"""The parent's side of a new process: clone it, place it, limit it, and see it through to ready.

Spec:    runtime-spec runtime.md#lifecycle
Man:     clone3, setns(2), user_namespaces(7), prlimit(2)
Runs in: parent
"""

from __future__ import annotations

import os

from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import InvalidArgument, Unknown
from pycontainerd.lib.linux import mount as m
from pycontainerd.lib.linux import process as proc
from pycontainerd.lib.linux.fd import rights
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.lib.linux.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    LINUX_NAMESPACES,
    setns,
    unshare,
)
from pycontainerd.runtime.libcontainer import sync
from pycontainerd.runtime.libcontainer.init.program import InitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeVar

    from pycontainerd.lib.cgroups import Manager
    from pycontainerd.lib.linux.pages import Pages
    from pycontainerd.runtime.libcontainer.config import Config, IDMapping, Process

    T = TypeVar("T")
    # What waits for a child: it yields the descriptor that is readable when it can go on without waiting.
    Steps = Generator[int, None, T]


class JoinedNamespaces:
    """Namespaces entered around a clone, so that the child starts in them, and left again."""

    __slots__ = ("_saved", "_targets")

    def __init__(self, targets: list[tuple[int, str]]) -> None:
        self._targets = targets
        self._saved: list[tuple[int, str]] = []

    def __enter__(self) -> None:
        try:
            for fd, kind in self._targets:
                flag, name = LINUX_NAMESPACES[kind]
                own_fd = os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
                self._saved.append((own_fd, kind))
                _join(fd, kind, flag)
        except OSError:
            self._restore()
            raise

    def __exit__(self, *_exc: object) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._saved:
            own_fd, kind = self._saved.pop()
            setns(own_fd, LINUX_NAMESPACES[kind][0])
            os.close(own_fd)


def _join(fd: int, kind: str, flag: int) -> None:
    try:
        setns(fd, flag)
    except OSError as error:
        path = os.readlink(f"/proc/self/fd/{fd}")
        raise OSError(error.errno, f"cannot join the {kind} namespace {path}: {error.strerror}") from error


class Joins:
    """How a container's namespaces come about: flags for clone3, what the parent enters, what the child enters."""

    __slots__ = ("child_fds", "flags", "parent_fds", "time_offsets", "unshare_flags")

    def __init__(self, config: Config) -> None:
        self.flags = 0
        self.unshare_flags = 0
        self.parent_fds: list[tuple[int, str]] = []
        self.child_fds: list[tuple[int, int]] = []
        self.time_offsets = config.time_offsets
        try:
            for kind, (flag, _name) in LINUX_NAMESPACES.items():
                self._add(kind, flag, config.namespaces.get(kind))
        except InvalidArgument:
            self.close()
            raise
        if config.namespaces.get("user"):
            # Made after the join, so that the joined user namespace owns them; but for the time namespace, whose
            # offsets want a process that may still write to the host's /proc.
            self.unshare_flags, self.flags = self.flags & ~CLONE_NEWTIME, self.flags & CLONE_NEWTIME
        elif config.creates("user"):
            # Made by init once it is that namespace's root: whose the root of the message queues is then.
            self.unshare_flags, self.flags = self.flags & CLONE_NEWIPC, self.flags & ~CLONE_NEWIPC

    def _add(self, kind: str, flag: int, path: str | None) -> None:
        if path is None or (kind == "cgroup" and path == ""):
            return  # a new cgroup namespace is made by init, once it is in its cgroup
        if path == "":
            self.flags |= flag
        elif kind in ("user", "mount"):
            self.child_fds.append((_open_namespace(kind, path), flag))
        else:
            self.parent_fds.append((_open_namespace(kind, path), kind))

    @property
    def in_two_steps(self) -> bool:
        """Whether a first child joins the user namespace and clones init: a new pid namespace is for children only."""
        return bool(self.unshare_flags & CLONE_NEWPID)

    def close(self) -> None:
        """Closes what was opened; the child has copies."""
        for fd, _kind in (*self.parent_fds, *self.child_fds):
            os.close(fd)
        self.parent_fds, self.child_fds = [], []


def _open_namespace(kind: str, path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidArgument(
            f"unable to create new parent process: namespace path: lstat {path}: {go_error(error.errno or 0)}"
        ) from error


def clone(joins: Joins, child: Callable[[], None], *, parent: bool, cgroup_fd: int) -> int:
    """Clones init into its namespaces; the pid is in this process's pid namespace."""
    flags = joins.flags
    with JoinedNamespaces(joins.parent_fds):
        if not flags & CLONE_NEWTIME:
            return proc.clone3(child, flags=flags, parent=parent, cgroup_fd=cgroup_fd)
        # Offsets can be written only while nobody lives in the namespace: make it first, for children only.
        own_fd = os.open("/proc/self/ns/time", os.O_RDONLY | os.O_CLOEXEC)
        unshare(CLONE_NEWTIME)
        try:
            write_time_offsets(joins.time_offsets)
            return proc.clone3(child, flags=flags & ~CLONE_NEWTIME, parent=parent, cgroup_fd=cgroup_fd)
        finally:
            setns(own_fd, CLONE_NEWTIME)
            os.close(own_fd)


def write_time_offsets(offsets: dict[str, dict[str, int]]) -> None:
    """The clocks of the time namespace that children of this process will get."""
    lines = [
        f"{clock} {value.get('secs', 0)} {value.get('nanosecs', 0)}\n" for clock, value in offsets.items()
    ]
    if lines:
        _write("/proc/self/timens_offsets", "".join(lines))


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def write_id_maps(pid: int, uid_mappings: list[IDMapping], gid_mappings: list[IDMapping]) -> None:
    """The id maps of a process that has just made its user namespace."""
    from pycontainerd.lib.linux import idmap

    idmap.write_maps(pid, id_rows(uid_mappings), id_rows(gid_mappings))


def id_rows(mappings: list[IDMapping]) -> tuple[tuple[int, int, int], ...]:
    """Mappings as plain numbers: id inside, id outside, how many."""
    return tuple((item.container_id, item.host_id, item.size) for item in mappings)


def limit(pid: int, process: Process) -> None:
    """Resource limits and the OOM score, set from outside while init waits."""
    if process.rlimits:
        from pycontainerd.lib.linux.rlimits import prlimit

        for resource, soft, hard in process.rlimits:
            try:
                prlimit(pid, resource, soft=soft, hard=hard)
            except OSError as error:
                raise InitError(
                    f"error setting rlimits for ready process: error setting rlimit type {resource}: "
                    f"{go_error(error.errno or 0)}"
                ) from error
    if process.oom_score_adj is not None:
        try:
            _write(f"/proc/{pid}/oom_score_adj", str(process.oom_score_adj))
        except OSError as error:
            if isinstance(error, PermissionError) and os.geteuid() != 0:
                return
            raise InitError(
                f"error setting oom_score_adj to {process.oom_score_adj}: {go_error(error.errno or 0)}"
            ) from error


def write_pid_file(path: str, pid: int) -> None:
    """The pid without a newline, by rename, as go-runc reads it."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_SYNC | os.O_CLOEXEC, 0o666)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)


def send_pidfd(socket_fd: int, pid: int, kind: str) -> None:
    """A pidfd of a process to whoever asked for it; `kind` is runc's name of what it is, standard or setns."""
    from _socket import socket

    pidfd = os.pidfd_open(pid)
    connection = socket(fileno=socket_fd)
    try:
        connection.sendmsg([kind.encode()], rights([pidfd]))
    except OSError as error:
        raise Unknown(f"failed to send pidfd on socket: {go_error(error.errno or 0)}") from error
    finally:
        connection.detach()
        os.close(pidfd)


def finish(steps: Steps[T]) -> T:
    """Goes through all steps, waiting where they wait; gives what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


class Child:
    """The child being set up: its pid and our end of the wire. Anything but a finished set-up kills it."""

    __slots__ = ("_first", "_waits", "pid", "sibling", "sync_fd")

    def __init__(self, pid: int, sync_fd: int, *, sibling: bool) -> None:
        self._waits: list[trace.Span] = []
        self._first = 0
        self.pid = pid
        self.sync_fd = sync_fd
        self.sibling = sibling

    def go(self) -> None:
        """Lets it take its next step, and tells it its pid here."""
        try:
            sync.send(self.sync_fd, sync.GO, str(self.pid).encode())
        except (BrokenPipeError, ConnectionResetError):
            return  # it died: the next receive says why, or that it was killed

    def expect(self, kind: bytes) -> bytes:
        """Waits for its next message; the child's own error is raised as one of ours."""
        return finish(self.expecting(kind))

    def expecting(self, kind: bytes) -> Steps[bytes]:
        """The same in steps."""
        with trace.span("init", until=kind.decode()) as wait:
            yield self.sync_fd
            found, payload = sync.receive(self.sync_fd)
        self._waits.append(wait)
        if found == kind:
            if kind == sync.READY:
                self._record(payload)
            return payload
        if found == sync.ERROR:
            raise InitError(payload.decode("utf-8", "replace"))
        raise InitError("init process died before it was ready" if not found else "protocol error")

    def _record(self, payload: bytes) -> None:
        """Init's own steps into the trace, each below the wait in which it was done."""
        for name, began, duration in sync.unpack_steps(payload):
            during = (wait for wait in self._waits if wait.start_nanos + wait.duration_nanos > began)
            trace.record(name, began, duration, next(during, None))

    def replace(self) -> None:
        """Takes the process that the first child cloned in its place; the first is `reap_first`'s."""
        finish(self.replacing())

    def replacing(self) -> Steps[None]:
        """The same in steps."""
        pid = yield from self.expecting(sync.PID)
        first, self.pid = self.pid, int(pid)
        self._first = 0 if self.sibling else first

    def reap_first(self) -> None:
        """Reaps the first of two children. It has nothing more to do, but its end takes time that nobody needs to wait for."""
        if self._first:
            os.waitpid(self._first, 0)
            self._first = 0

    def kill(self) -> None:
        """Ends and, unless it is somebody else's child, reaps it."""
        try:
            os.kill(self.pid, 9)
        except ProcessLookupError:
            pass
        if not self.sibling:
            try:
                os.waitpid(self.pid, 0)
            except ChildProcessError:
                pass
            self.reap_first()


def start(
    joins: Joins,
    run: Callable[[], None],
    ends: tuple[int, int],
    *,
    sibling: bool,
    cgroups: Manager,
    pages: Pages | None = None,
    outer: Callable[[Callable[[], None], int, list[int]], None] | None = None,
) -> Child:
    """Clones the child into the cgroups, keeps our end, closes its end. `run` is called in the child.

    What the child will write to, as far as `pages` knows, it copies first.

    `outer` runs in a first child, outside of the cgroups; it is given what it has to run in a second one, and the second one's
    cgroups: a folder's descriptor or -1, and those of files.
    """
    ours, theirs = ends
    cgroup_fd = -1
    entries: list[int] = []

    def enter() -> None:
        if pages is not None:
            pages.init.copy()
        _enter(entries, theirs, run)

    try:
        cgroup_fd = cgroups.open_fd()
        if outer is not None and cgroup_fd >= 0 and os.geteuid() == 0:
            cgroup_fd = _detached(cgroup_fd)
        entries = cgroups.open_entries()
        with trace.span("clone3", flags=joins.flags):
            if outer is None:
                pid = clone(joins, enter, parent=sibling, cgroup_fd=cgroup_fd)
            else:
                pid = clone(joins, lambda: outer(enter, cgroup_fd, entries), parent=sibling, cgroup_fd=-1)
    except OSError as error:
        os.close(ours)
        what = f"{error.filename}: " if error.filename else ""
        raise Unknown(f"unable to start container process: {what}{error.strerror}") from error
    finally:
        joins.close()
        for fd in (theirs, cgroup_fd, *entries):
            if fd >= 0:
                os.close(fd)
    return Child(pid, ours, sibling=sibling)


def _detached(folder_fd: int) -> int:
    """The folder once more, closing the first, as the root of a mount that nothing is above: the container sees it for a moment."""
    try:
        mount_fd = m.open_tree(folder_fd, b"")
    finally:
        os.close(folder_fd)
    try:
        m.mount_setattr(mount_fd, attr_set=m.MOUNT_ATTR_RDONLY)
    except OSError:
        os.close(mount_fd)
        raise
    return mount_fd


def _enter(entries: list[int], sync_fd: int, run: Callable[[], None]) -> None:
    """In the child: into its cgroups, before anything that counts."""
    try:
        for fd in entries:
            os.write(fd, b"0")
            os.close(fd)
    except OSError as error:
        sync.send(sync_fd, sync.ERROR, f"unable to apply cgroup configuration: {error.strerror}".encode())
        os._exit(1)
    run()
