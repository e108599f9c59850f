"""The end of the prepared list: user, groups, capabilities, working directory, executable, filter, execve.

Spec:    runtime-spec config.md#process, #user, #linux-process
Man:     capabilities(7), credentials(7)
Runs in: computed before pivot_root or setns, run after it (init.program)
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import ctypes, prctl
from pycontainerd.lib.linux.capabilities import CapData, CapDataPair, CapHeader, to_mask
from pycontainerd.lib.linux.fd import gaps
from pycontainerd.lib.oci.document import quote
from pycontainerd.runtime.libcontainer.init import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.runtime.libcontainer.config import Process
    from pycontainerd.runtime.libcontainer.init.program import Operation
    from pycontainerd.runtime.libcontainer.seccomp import Filter

_LOW = 0xFFFFFFFF
_VERSION_3 = 0x20080522
ENDING_SIGNALS = (1, 2, 3, 15)  # SIGHUP, SIGINT, SIGQUIT, SIGTERM
RESET_SIGNALS = (*ENDING_SIGNALS, 13, 25)  # and what Python ignores: SIGPIPE, SIGXFSZ


class Identity:
    """What a process becomes: made by the parent, turned into operations by init."""

    __slots__ = (
        "additional_gids",
        "available",
        "capabilities",
        "filter",
        "last_cap",
        "no_new_privileges",
        "process",
        "setgroups_allowed",
        "shown_name",
    )

    def __init__(
        self,
        process: Process,
        capabilities: dict[str, list[str]],
        *,
        no_new_privileges: bool,
        filter: Filter | None,
        last_cap: int,
        available: int,
        additional_gids: list[int],
        setgroups_allowed: bool = True,
    ) -> None:
        self.process = process
        self.capabilities = capabilities
        self.no_new_privileges = no_new_privileges
        self.filter = filter
        self.last_cap = last_cap
        self.available = available
        self.additional_gids = additional_gids
        self.setgroups_allowed = setgroups_allowed
        self.shown_name = quote(process.args[0])

    def mask(self, name: str) -> int:
        """A capability set as bits, without those this process can't give."""
        return to_mask(self.capabilities.get(name, [])) & self.available


def environment(process: Process, home: str) -> list[bytes]:
    """The process's environment; HOME from the image's passwd when the config has none."""
    env = [os.fsencode(item) for item in process.env]
    if not any(item.startswith(b"HOME=") and len(item) > 5 for item in env):
        env = [item for item in env if not item.startswith(b"HOME=")]
        env.append(b"HOME=" + os.fsencode(home))
    return env


def search_directories(env: list[bytes]) -> tuple[bytes, ...]:
    """The absolute directories of the last PATH; a relative one is no place to run programs from."""
    found = b""
    for item in env:
        if item.startswith(b"PATH="):
            found = item[5:]
    return tuple(part.rstrip(b"/") for part in found.split(b":") if part.startswith(b"/"))


def become(identity: Identity, env: list[bytes]) -> list[Operation]:
    """From root in the container to the user it runs as, and the search for its executable."""
    process = identity.process
    cwd = os.fsencode(process.cwd)
    what_cwd = f'chdir to cwd ("{process.cwd}") set in config.json failed'
    filter_ = identity.filter
    steps: list[Operation] = []
    if identity.no_new_privileges:
        steps.append(("prctl", (prctl.PR_SET_NO_NEW_PRIVS, 1, 0), "unable to set no new privileges"))
    elif filter_ is not None:
        # Without no_new_privs loading a filter needs CAP_SYS_ADMIN: now, while there still is one.
        steps += load(filter_)
    bounding = identity.mask("bounding")
    dropped = tuple(bit for bit in range(identity.last_cap + 1) if not bounding >> bit & 1)
    steps += [
        ("drop_bounding", (dropped,), "unable to apply bounding set"),
        ("prctl", (prctl.PR_SET_KEEPCAPS, 1, 0), "unable to set keep caps"),
        ("chdir_early", (cwd,), what_cwd),
    ]
    steps += _user(identity)
    steps += [
        # Again as the user, who may see what root without its capabilities doesn't.
        ("chdir", (cwd,), what_cwd),
        ("check_cwd", (), "unable to get the current working directory"),
        ("prctl", (prctl.PR_SET_KEEPCAPS, 0, 0), "unable to clear keep caps"),
        ("capset", _capset_arguments(identity), "unable to apply caps"),
    ]
    # The kernel raises an ambient capability only where it is permitted and inheritable too.
    ambient = identity.mask("ambient") & identity.mask("permitted") & identity.mask("inheritable")
    steps.append(
        (
            "ambient",
            (tuple(bit for bit in range(identity.last_cap + 1) if ambient >> bit & 1),),
            "unable to apply ambient caps",
        )
    )
    steps.append(
        (
            "search_path",
            (os.fsencode(process.args[0]), search_directories(env), identity.shown_name),
            "exec",
        )
    )
    return steps


def _user(identity: Identity) -> list[Operation]:
    process = identity.process
    # The primary group is in the list: a file that denies it denies it (CVE-2022-36109).
    gids = list(dict.fromkeys([process.gid, *identity.additional_gids]))
    packed = (ctypes.c_uint32 * len(gids))(*gids)
    steps: list[Operation] = []
    if identity.setgroups_allowed:
        steps.append(("setgroups", (len(gids), packed), "unable to set supplementary groups"))
    steps += [
        ("setgid", (process.gid,), "unable to set gid"),
        ("setuid", (process.uid,), "unable to set uid"),
    ]
    return steps


def _capset_arguments(identity: Identity) -> tuple[Any, ...]:
    permitted = identity.mask("permitted")
    effective = identity.mask("effective")
    inheritable = identity.mask("inheritable")
    data = CapDataPair(
        CapData(effective & _LOW, permitted & _LOW, inheritable & _LOW),
        CapData(effective >> 32, permitted >> 32, inheritable >> 32),
    )
    return CapHeader(_VERSION_3, 0), data


def _late_fds(identity: Identity) -> set[int]:
    """The listener's socket, close-on-exec, while the filter that it is for is still to be loaded."""
    return kept_fds(identity) if identity.no_new_privileges else set()


def kept_fds(identity: Identity) -> set[int]:
    """What the end of the list still needs: the seccomp listener's socket."""
    if identity.filter is None or identity.filter.listener is None:
        return set()
    return {identity.filter.listener.fileno()}


def load(filter_: Filter) -> list[Operation]:
    """Loads the seccomp filter; with a listener, hands the notify descriptor on."""
    steps: list[Operation] = [
        ("load_seccomp", (filter_.flags, filter_.pointer), "error loading seccomp filter into kernel")
    ]
    if filter_.listener is not None:
        steps.append(("send_listener", (filter_.listener, filter_.listener_payload), "seccomp listener"))
    return steps


def finish(identity: Identity, env: list[bytes], first_closed_fd: int) -> list[Operation]:
    """What is left once the start is given: close everything, signals, the filter, execve."""
    argv = program.c_strings([os.fsencode(item) for item in identity.process.args])
    envp = program.c_strings(env)
    steps: list[Operation] = []
    steps += [
        ("reset_signals", (RESET_SIGNALS,), "unable to reset signals"),
        ("close_ranges", (gaps(_late_fds(identity), first_closed_fd),), "unable to close descriptors"),
    ]
    if identity.filter is not None and identity.no_new_privileges:
        # The last thing before execve: the filter need allow nothing but write and execve of what follows.
        steps += load(identity.filter)
    steps.append(("execve", (argv, envp), "exec"))
    return steps


NO_CAPABILITIES: dict[str, list[str]] = {}
