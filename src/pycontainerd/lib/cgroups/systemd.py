"""Control groups by systemd: each container is a transient scope (or a slice), made and ended over D-Bus.

    cgroupsPath "SLICE:PREFIX:NAME"  ->  unit PREFIX-NAME.scope in SLICE  ->  <hierarchy>/SLICE expanded/PREFIX-NAME.scope

systemd makes the unit with the container's first process in it, so nothing exists before that was cloned. What systemd
doesn't know of is done by the files below the unit's own folders: it delegates them.

Spec: systemd docs/CONTROL_GROUP_INTERFACE.md, org.freedesktop.systemd1(5); runc docs/systemd.md
"""

from __future__ import annotations

import os

from pycontainerd.lib.cgroups import systemd_properties as properties
from pycontainerd.lib.cgroups.v1 import LegacyManager
from pycontainerd.lib.cgroups.v2 import UnifiedManager
from pycontainerd.lib.dbus import BUS, BUS_PATH, Connection, DBusError, parse_address
from pycontainerd.lib.errdefs import InvalidArgument, Unavailable, Unknown
from pycontainerd.lib.linux.libc import go_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.lib.cgroups.hierarchy import Mounts
    from pycontainerd.lib.cgroups.systemd_properties import Property

NAME, PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
MANAGER = f"{NAME}.Manager"
BOOTED = "/run/systemd/system"
PRIVATE_SOCKET = "/run/systemd/private"
SYSTEM_BUS = "unix:path=/var/run/dbus/system_bus_socket"
JOB_TIMEOUT_S = 30.0
_HINT = (
    "failed to connect to dbus (hint: for rootless containers, maybe you need to install dbus-user-session package, "
    "see https://github.com/opencontainers/runc/blob/master/docs/cgroup-v2.md)"
)


class Unit:
    """A container's unit: the slice it is in (empty is systemd's default), and its name in two parts."""

    __slots__ = ("name", "parent", "prefix")

    def __init__(self, parent: str, prefix: str, name: str) -> None:
        self.parent = parent
        self.prefix = prefix
        self.name = name

    @property
    def is_slice(self) -> bool:
        """Whether the container asks for a slice of its own instead of a scope."""
        return self.name.endswith(".slice")

    @property
    def full_name(self) -> str:
        """As systemd knows it."""
        return self.name if self.is_slice else f"{self.prefix}-{self.name}.scope"

    def slice(self, rootless: bool) -> str:
        """The slice it is put into."""
        return self.parent or ("user.slice" if rootless else "system.slice")


def parse_path(cgroups_path: str, id: str) -> Unit:
    """The unit of `linux.cgroupsPath`; without one, runc-ID.scope in the default slice."""
    if not cgroups_path:
        return Unit("", "runc", id)
    parts = cgroups_path.split(":")
    if len(parts) != 3:
        raise InvalidArgument(
            'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, '
            f'got "{cgroups_path}" instead'
        )
    unit = Unit(*parts)
    if "/" in unit.full_name or not unit.name:
        raise InvalidArgument(f"linux.cgroupsPath: {unit.full_name!r} is not a unit's name")
    return unit


def expand_slice(name: str) -> str:
    """A slice's path: a-b.slice lies in a.slice. InvalidArgument for a name that is none."""
    stem = name.removesuffix(".slice")
    if stem == name or "/" in name or not stem:
        raise InvalidArgument(f"invalid slice name: {name}")
    if stem == "-":
        return ""
    parts = stem.split("-")
    if "" in parts:
        raise InvalidArgument(f"invalid slice name: {name}")
    return "".join(f"/{'-'.join(parts[: at + 1])}.slice" for at in range(len(parts)))


def require_running() -> None:
    """Unavailable where the machine was not booted by systemd."""
    if not os.path.isdir(BOOTED) or os.path.islink(BOOTED):
        raise Unavailable("systemd not running on this host, cannot use systemd cgroups manager")


def _connect(rootless: bool) -> Connection:
    try:
        if rootless:
            return Connection(parse_address(_user_bus()))
        try:
            return Connection(parse_address(os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_BUS))
        except (OSError, DBusError):
            if os.geteuid() != 0:
                raise
            # Without a bus, as early in the boot: systemd itself.
            return Connection(PRIVATE_SOCKET, is_bus=False)
    except OSError as error:
        where = "the user's bus" if rootless else f"unix {PRIVATE_SOCKET}"
        raise Unavailable(f"{_HINT}: dial {where}: connect: {go_error(error.errno or 0)}") from error
    except DBusError as error:
        raise Unavailable(f"{_HINT}: {error}") from error


def _user_bus() -> str:
    address = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
    folder = os.environ.get("XDG_RUNTIME_DIR", "")
    if not address and folder and os.path.exists(f"{folder}/bus"):
        address = f"unix:path={folder}/bus"
    if not address:
        raise DBusError("", "could not detect DBUS_SESSION_BUS_ADDRESS from the environment")
    return address


class Systemd:
    """A connection to a service manager. A context that closes it."""

    __slots__ = ("_bus", "_version")

    def __init__(self, rootless: bool) -> None:
        self._bus = _connect(rootless)
        self._version = 0

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bus.__exit__(*exc)

    def _manager(self, member: str, signature: str, *values: Any) -> list[Any]:
        return self._bus.call(NAME, PATH, MANAGER, member, signature, *values)

    def _property(self, name: str) -> str:
        try:
            body = self._bus.call(NAME, PATH, "org.freedesktop.DBus.Properties", "Get", "ss", MANAGER, name)
        except DBusError as error:
            raise Unknown(f"unable to get systemd's {name}: {error}") from error
        return str(body[0][1])

    @property
    def version(self) -> int:
        """The number in systemd's version; 0 when it doesn't say."""
        if not self._version:
            digits = ""
            for letter in self._property("Version").lstrip("v"):
                if not letter.isdigit():
                    break
                digits += letter
            self._version = int(digits or 0)
        return self._version

    def control_group(self) -> str:
        """The service manager's own cgroup: `/` of the system's."""
        return self._property("ControlGroup").rstrip("/")

    def _watch_jobs(self) -> None:
        rule = f"type='signal',interface='{MANAGER}',member='JobRemoved',path='{PATH}'"
        try:
            self._bus.call(BUS, BUS_PATH, BUS, "AddMatch", "s", rule)
        except DBusError as error:
            if not error.name:
                raise
            return  # systemd itself is no bus: it sends them unasked

    def _finish(self, job: str) -> str:
        return str(self._bus.wait_signal(MANAGER, "JobRemoved", 1, job, JOB_TIMEOUT_S)[3])

    def start(self, unit: str, wanted: list[Property]) -> None:
        """Makes a transient unit and waits for it; Unknown in runc's words when it can't be."""
        arguments: tuple[str, str, list[Property], list[Any]] = (unit, "replace", wanted, [])
        try:
            self._watch_jobs()
            try:
                job = self._manager("StartTransientUnit", "ssa(sv)a(sa(sv))", *arguments)[0]
            except DBusError as error:
                if not error.name.endswith(".UnitExists"):
                    raise
                self.reset_failed(unit)  # the rest of one that failed: systemd may forget it now
                job = self._manager("StartTransientUnit", "ssa(sv)a(sa(sv))", *arguments)[0]
            result = self._finish(job)
        except DBusError as error:
            raise Unknown(f'unable to start unit "{unit}": {error}') from error
        except TimeoutError:
            self.reset_failed(unit)
            raise Unknown(f"Timeout waiting for systemd to create {unit}") from None
        if result != "done":
            self.reset_failed(unit)
            raise Unknown(f"error creating systemd unit `{unit}`: got `{result}`")

    def stop(self, unit: str) -> None:
        """Ends a unit and forgets it; one that isn't there is fine. Unknown when systemd doesn't answer."""
        try:
            self._watch_jobs()
            self._finish(self._manager("StopUnit", "ss", unit, "replace")[0])
        except DBusError as error:
            if not error.name:
                raise Unknown(f"unable to stop unit {unit}: {error}") from error
        except TimeoutError:
            raise Unknown(f"Timed out while waiting for systemd to remove {unit}") from None
        self.reset_failed(unit)

    def reset_failed(self, unit: str) -> None:
        """Lets systemd forget a unit that failed; most haven't, and it says so."""
        try:
            self._manager("ResetFailedUnit", "s", unit)
        except DBusError as error:
            if not error.name:
                raise Unknown(f"unable to reset failed unit: {error}") from error

    def set_properties(self, unit: str, wanted: list[Property]) -> None:
        """Changes a running unit until it ends; Unknown says why not."""
        try:
            self._manager("SetUnitProperties", "sba(sv)", unit, True, wanted)
        except DBusError as error:
            raise Unknown(f"unable to set unit properties: {error}") from error


class SystemdManager:
    """A container's cgroups as one unit of systemd; `files` are the same cgroups by their files."""

    __slots__ = ("_begun", "_extra", "_resources", "files", "paths", "rootless", "unit")

    def __init__(
        self,
        files: LegacyManager | UnifiedManager,
        unit: Unit,
        *,
        rootless: bool = False,
        begun: bool = False,
        extra: list[Property] | None = None,
        resources: dict[str, Any] | None = None,
    ) -> None:
        self.files = files
        self.paths = files.paths
        self.unit = unit
        self.rootless = rootless
        self._begun = begun
        self._extra = extra or []
        self._resources = resources or {}

    @property
    def _is_v2(self) -> bool:
        return isinstance(self.files, UnifiedManager)

    def create(self) -> None:
        """Nothing: a scope begins with its first process."""

    def place(self, pid: int) -> None:
        with Systemd(self.rootless) as systemd:
            wanted = self._first_properties(pid)
            if self._is_v2:
                wanted += properties.oom_policy(self._resources, systemd.version)
            systemd.start(self.unit.full_name, wanted)
        self._begun = True
        # The hierarchies, or the controllers, that systemd doesn't use.
        self.files.create()
        self.files.attach(pid)

    def _first_properties(self, pid: int) -> list[Property]:
        parent = self.unit.slice(self.rootless)
        yes = ("b", True)
        wanted: list[Property] = [("Description", ("s", f"libcontainer container {self.unit.name}"))]
        if self.unit.is_slice:
            wanted.append(("Wants", ("as", [parent])))
        else:
            wanted += [("Slice", ("s", parent)), ("Delegate", yes)]
        return [
            *wanted,
            ("PIDs", ("au", [pid])),
            ("MemoryAccounting", yes),
            ("CPUAccounting", yes),
            ("IOAccounting" if self._is_v2 else "BlockIOAccounting", yes),
            ("TasksAccounting", yes),
            ("DefaultDependencies", ("b", False)),
            *self._extra,
        ]

    def exists(self) -> bool:
        return self.files.exists()

    def attach(self, pid: int) -> None:
        self.files.attach(pid)

    def open_fd(self) -> int:
        return self.files.open_fd() if self._begun else -1

    def open_entries(self) -> list[int]:
        return self.files.open_entries() if self._begun else []

    def get_ready(self) -> None:
        self.files.get_ready()

    def set(self, resources: dict[str, Any], *, update: bool = False) -> None:
        with Systemd(self.rootless) as systemd:
            wanted = [] if update else properties.devices(resources)
            convert = properties.v2 if self._is_v2 else properties.v1
            wanted += convert(resources, systemd.version)
            cpu = resources.get("cpu", {})
            quota = properties.cpu_quota(cpu, systemd.version)[1]
            if wanted:
                self._set_properties(systemd, wanted)
        if quota != cpu.get("quota", 0):
            resources = {**resources, "cpu": {**cpu, "quota": quota}}
        self.files.set(resources, update=update)

    def _set_properties(self, systemd: Systemd, wanted: list[Property]) -> None:
        # On version 1 systemd denies all devices before it allows some: nobody may run meanwhile.
        freeze = not self._is_v2 and "freezer" in self.paths and not self.files.is_frozen()
        if freeze:
            self.files.freeze()
        try:
            systemd.set_properties(self.unit.full_name, wanted)
        finally:
            if freeze:
                self.files.thaw()

    def freeze(self) -> None:
        self.files.freeze()

    def thaw(self) -> None:
        self.files.thaw()

    def is_frozen(self) -> bool:
        return self.files.is_frozen()

    def pids(self, *, recursive: bool = True) -> list[int]:
        return self.files.pids(recursive=recursive)

    def kill(self) -> None:
        self.files.kill()

    def destroy(self, *, timeout_s: float = 1.0) -> None:
        try:
            if self._begun:
                with Systemd(self.rootless) as systemd:
                    systemd.stop(self.unit.full_name)
        finally:
            # What systemd didn't make, or left.
            self.files.destroy(timeout_s=timeout_s)

    def stats(self) -> dict[str, Any]:
        return self.files.stats()

    def view(self) -> tuple[list[tuple[str, str, str]], str]:
        return self.files.view()


def manager_for_unit(
    mounts: Mounts,
    unit: Unit,
    *,
    rootless: bool,
    extra: list[Property],
    resources: dict[str, Any],
) -> SystemdManager:
    """The manager of a new container. Unavailable without systemd; InvalidArgument for a slice that is none."""
    require_running()
    folder = f"{expand_slice(unit.slice(rootless))}/{unit.full_name}"
    files: LegacyManager | UnifiedManager
    if mounts.v1:
        if rootless:
            raise InvalidArgument("cannot use rootless systemd cgroups manager on cgroup v1")
        paths = {name: mount.point + folder for name, mount in sorted(mounts.v1.items())}
        if mounts.unified:
            paths = {"": mounts.unified + folder, **paths}
        files = LegacyManager(paths)
    else:
        if rootless:
            with Systemd(rootless) as systemd:
                folder = systemd.control_group() + folder
        files = UnifiedManager(mounts.unified + folder, rootless=rootless)
    return SystemdManager(files, unit, rootless=rootless, extra=extra, resources=resources)
