"""`--apparmor-default-profile`: containerd's default AppArmor profile, made under a name and loaded into the kernel.

Allowed is what the profile doesn't deny: writing to the host's side of /proc and /sys, mounting, signals and ptrace
across its border.

Spec: apparmor.d(5); containerd contrib/apparmor (which rules)
"""

from __future__ import annotations

import os

from pycontainerd.ctr.text import os_text
from pycontainerd.lib.errdefs import InvalidArgument, NotFound, Unknown

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

_FOLDER: Final = "/etc/apparmor.d"
_LOADED: Final = "/sys/kernel/security/apparmor/profiles"
_NAME: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_PARSE_TIMEOUT_S: Final = 60
# What may be written of /proc: a process's own folder, and of /proc/sys only kernel/shm*.
_DENIED_IN_PROC: Final = (
    ("@{PROC}/*", "w"),
    ("@{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/**", "w"),
    ("@{PROC}/sys/[^k]**", "w"),
    ("@{PROC}/sys/kernel/{?,??,[^s][^h][^m]**}", "w"),
    ("@{PROC}/sysrq-trigger", "rwklx"),
    ("@{PROC}/kcore", "rwklx"),
)
_HIDDEN_IN_SYS: Final = ("/sys/firmware", "/sys/devices/virtual/powercap", "/sys/kernel/security")


def require_loaded(name: str) -> None:
    """Returns once the kernel has a profile of that name; one that is loaded already is taken as it is.

    Errors: Unknown in a kernel without AppArmor, NotFound without apparmor_parser, Unknown with what that says.
    """
    if not name or not set(name) <= _NAME:
        raise InvalidArgument(
            f'AppArmor profile name "{name}": only letters, digits, "_", "." and "-": invalid argument'
        )
    if is_loaded(name):
        return
    text = profile(name, _own_profile(), lambda path: os.path.exists(f"{_FOLDER}/{path}"))
    _load(name, text)


def is_loaded(name: str) -> bool:
    """Whether the kernel has the profile."""
    try:
        with open(_LOADED, encoding="utf-8", errors="surrogateescape") as file:
            return any(line.startswith(f"{name} ") for line in file)
    except OSError as error:
        raise Unknown(
            os_text(error), hint="this kernel runs without AppArmor: leave --apparmor-default-profile out"
        ) from error


def _own_profile() -> str:
    """The profile that this process is confined by."""
    try:
        with open("/proc/self/attr/current", encoding="utf-8", errors="replace") as file:
            return file.read().partition(" ")[0].strip("\0\n") or "unconfined"
    except OSError:
        return "unconfined"  # the usual answer where nobody can say


def _load(name: str, text: str) -> None:
    import subprocess
    import tempfile

    with tempfile.NamedTemporaryFile("w", prefix=name, dir=os.environ.get("XDG_RUNTIME_DIR")) as file:
        file.write(text)
        file.flush()
        try:
            done = subprocess.run(
                ["apparmor_parser", "-Kr", file.name],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_PARSE_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise NotFound(
                f'load apparmor profile {file.name}: parser error(""): '
                'exec: "apparmor_parser": executable file not found in $PATH',
                hint="install the package apparmor, or load a profile elsewhere and name it by --apparmor-profile",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise Unknown(f"load apparmor profile {file.name}: {error}") from error
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace").strip()
            raise Unknown(
                f'load apparmor profile {file.name}: parser error("{said}"): exit status {done.returncode}',
                hint="loading a profile needs root (CAP_MAC_ADMIN)",
            )


def profile(name: str, daemon: str, has_macro: Callable[[str], bool]) -> str:
    """The profile's text. `daemon` is the profile of who signals the container; `has_macro` looks below /etc/apparmor.d."""
    head = ["abi <abi/3.0>,"] if has_macro("abi/3.0") else []
    head.append("#include <tunables/global>" if has_macro("tunables/global") else "@{PROC}=/proc/")
    body = ["#include <abstractions/base>"] if has_macro("abstractions/base") else []
    body += [f"{rule}," for rule in _rules(name, daemon)]
    return "\n".join(
        [
            *head,
            f"profile {name} flags=(attach_disconnected,mediate_deleted) {{",
            *(f"  {line}" for line in body),
            "}",
            "",
        ]
    )


def _rules(name: str, daemon: str) -> Iterator[str]:
    yield from ("network", "capability", "file", "umount")
    for peer in dict.fromkeys(("unconfined", "runc", "crun", daemon)):
        yield f"signal (receive) peer={peer}"
    yield f"signal (send,receive) peer={name}"
    for path, access in _DENIED_IN_PROC:
        yield f"deny {path} {access}"
    yield "deny mount"
    for pattern in all_but("/sys/fs/cgr", "/sys/"):
        yield f"deny {pattern} wklx"
    for path in _HIDDEN_IN_SYS:
        yield f"deny {path}/** rwklx"
    yield f"ptrace (trace,tracedby,read,readby) peer={name}"


def all_but(path: str, base: str) -> Iterator[str]:
    """Patterns for all that is in folders below `base` and not below a folder whose name begins with `path`."""
    for place in range(len(base), len(path)):
        if path[place] != "/":
            yield f"{path[:place]}[^{path[place]}]*/**"
