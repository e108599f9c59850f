"""Intel RDT: the resctrl group of a container, its cache and bandwidth schemata, its monitoring group.

    <resctrl>/                      the mount of the resctrl filesystem, closID "/"
      info/L3, MB, L3_MON           what the machine can do; last_cmd_status says why a write failed
      <closID or container ID>/     tasks, schemata, mon_data/
        mon_groups/<container ID>/  with enableMonitoring

Loaded only where a config has `linux.intelRdt`. A group that is made is removed with the container, and only if no
closID names it: such a one is somebody else's, even where it had to be made.

Spec:    runtime-spec config-linux.md#intelrdt, linux Documentation/filesystems/resctrl.rst
Runs in: parent
"""

from __future__ import annotations

import os

from pycontainerd.lib.errdefs import InvalidArgument, Unknown
from pycontainerd.lib.linux.libc import go_error
from pycontainerd.lib.linux.procfs import filesystem_magic
from pycontainerd.lib.oci.document import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RDTGROUP_SUPER_MAGIC = 0x7655821
DEFAULT_ROOT = "/sys/fs/resctrl"
_L3_INFO = (("cbm_mask", str), ("min_cbm_bits", int), ("num_closids", int))
_MB_INFO = (("bandwidth_gran", int), ("delay_linear", int), ("min_bandwidth", int), ("num_closids", int))
_MBM = ("mbm_total_bytes", "mbm_local_bytes")


def find_root() -> str:
    """Where resctrl is mounted; empty where it isn't, or where the machine has none."""
    try:
        fd = os.open(DEFAULT_ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        if filesystem_magic(fd) == RDTGROUP_SUPER_MAGIC:
            return DEFAULT_ROOT
    finally:
        os.close(fd)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            head, _, tail = line.partition(" - ")
            if tail.split()[0] == "resctrl":
                return head.split()[4]
    return ""


def has(root: str, feature: str) -> bool:
    """Whether the machine controls this (L3, MB) or watches it (L3_MON)."""
    return os.path.isdir(f"{root}/info/{feature}")


def check(raw: dict[str, Any], root: str) -> None:
    """`linux.intelRdt` against the spec and the machine; InvalidArgument in runc's words, below the JSON path."""
    wrong = _wrong(raw, root)
    if wrong:
        raise InvalidArgument(f"linux.intelRdt: {wrong}")


def _wrong(raw: dict[str, Any], root: str) -> str:
    if not root:
        return "intelRdt is specified in config, but Intel RDT is not enabled"
    clos_id = raw.get("closID", "")
    if clos_id in (".", "..") or (len(clos_id) > 1 and "/" in clos_id):
        return f"invalid intelRdt.ClosID {quote(clos_id)}"
    if raw.get("l3CacheSchema") and not has(root, "L3"):
        return "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled"
    if raw.get("memBwSchema") and not has(root, "MB"):
        return "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled"
    if raw.get("memBwSchema") and not raw["memBwSchema"].startswith("MB:"):
        return "intelRdt.memBwSchema must start with MB:"
    if any("\n" in line for line in _lines(raw)):
        return "a schema must not contain a newline"
    return ""


def _lines(raw: dict[str, Any]) -> list[str]:
    """In the order in which the spec wants them written."""
    lines = (raw.get("l3CacheSchema", ""), raw.get("memBwSchema", ""), *raw.get("schemata", []))
    return [line for line in lines if line]


def to_runc(raw: dict[str, Any]) -> dict[str, Any]:
    """As runc keeps it in state.json, whose name of one key is another."""
    return {("l3_cache_schema" if key == "l3CacheSchema" else key): value for key, value in raw.items()}


def from_runc(stored: dict[str, Any]) -> dict[str, Any]:
    """What `to_runc` made, or runc wrote."""
    return {("l3CacheSchema" if key == "l3_cache_schema" else key): value for key, value in stored.items()}


class Group:
    """A container's group. `made` says that it wasn't there before and is ours to remove."""

    __slots__ = ("id", "made", "path", "raw", "root")

    def __init__(self, raw: dict[str, Any], id: str, root: str, path: str = "", made: bool = False) -> None:
        self.raw = raw
        self.id = id
        self.root = root
        self.path = path or (root if raw.get("closID") == "/" else f"{root}/{raw.get('closID') or id}")
        self.made = made

    @property
    def mon_path(self) -> str:
        """The monitoring group; empty without one."""
        # What runtime-spec 1.1 and 1.2 had instead is taken as the same.
        wanted = any(self.raw.get(name) for name in ("enableMonitoring", "enableCMT", "enableMBM"))
        return f"{self.path}/mon_groups/{self.id}" if wanted else ""

    def intend(self) -> None:
        """Finds out what apply will have to make, so that it can be kept before it is made."""
        self.made = not self.raw.get("closID") and not os.path.exists(self.path)

    def apply(self, pid: int) -> None:
        """Makes what is missing and puts a process in; Unknown says what failed, and why in the kernel's words."""
        if self.raw.get("closID") and not _lines(self.raw) and not os.path.exists(self.path):
            raise Unknown(
                "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty): "
                f"stat {self.path}: no such file or directory"
            )
        for path in (self.path, self.mon_path):
            if path:
                self._make(path)
        self.add(pid)

    def _make(self, path: str) -> None:
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            return
        except OSError as error:
            raise self._failure(f"mkdir {path}", error) from error

    def add(self, pid: int) -> None:
        """Puts one more process in, and what it makes from then on."""
        for path in (self.path, self.mon_path):
            if path:
                self._write(f"{path}/tasks", str(pid), f"intelrdt: unable to add pid {pid}")

    def set(self) -> None:
        """Writes the schemata, of which the kernel checks every line; without any nothing is written."""
        # As runc, a group that was there before takes them too: what is read there isn't what was written.
        text = "".join(f"{line}\n" for line in _lines(self.raw))
        if text:
            self._write(f"{self.path}/schemata", text, f"intelrdt: unable to write {quote(text)}")

    def _write(self, path: str, text: str, what: str) -> None:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise self._failure(what, error) from error

    def _failure(self, what: str, error: OSError) -> Unknown:
        try:
            status = f", last_cmd_status: {_read(f'{self.root}/info/last_cmd_status')}"
        except OSError:
            status = ""  # an old kernel: its errno has to do
        return Unknown(f"{what}: {go_error(error.errno or 0)}{status}")

    def remove(self) -> None:
        """Removes what was made; what is gone is fine. The kernel moves what is still in it to the default group."""
        for path in (self.mon_path, self.path if self.made else ""):
            if not path:
                continue
            try:
                os.rmdir(path)
            except FileNotFoundError:
                continue

    def stats(self) -> dict[str, Any]:
        """The `intel_rdt` of runc's stats event."""
        lines = _read(f"{self.path}/schemata").splitlines()
        root_lines = _read(f"{self.root}/schemata").splitlines()
        found: dict[str, Any] = {}
        for name, feature, fields, key in (
            ("L3", "l3_cache", _L3_INFO, "l3_cache_info"),
            ("MB", "mem_bw", _MB_INFO, "mem_bw_info"),
        ):
            if has(self.root, name):
                folder = f"{self.root}/info/{name}"
                found[key] = {field: kind(_read(f"{folder}/{field}")) for field, kind in fields}
                found[f"{feature}_schema_root"] = _last(root_lines, name)
                found[f"{feature}_schema"] = _last(lines, name)
        found["schemata"] = [line.strip() for line in lines]
        found.update(self._monitoring())
        return {key: value for key, value in found.items() if value}

    def _monitoring(self) -> dict[str, Any]:
        if not has(self.root, "L3_MON"):
            return {}
        features = _read(f"{self.root}/info/L3_MON/mon_features").splitlines()
        traffic = [name for name in _MBM if name in features]
        folder = f"{self.mon_path or self.path}/mon_data"
        nodes = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
        found: dict[str, Any] = {}
        if traffic:
            found["mbm_stats"] = [
                {name: int(_read(f"{node}/{name}")) if name in traffic else 0 for name in _MBM}
                for node in nodes
            ]
        if "llc_occupancy" in features:
            found["cmt_stats"] = [{"llc_occupancy": int(_read(f"{node}/llc_occupancy"))} for node in nodes]
        return found


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read().strip()


def _last(lines: list[str], name: str) -> str:
    return next((line.strip() for line in reversed(lines) if name in line), "")
