"""What a container or a process in one is made with."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.lib.linux.pages import Pages
    from pycontainerd.lib.log import Logger


class CreateOptions:
    """What a container is made with. Descriptors stay the caller's."""

    __slots__ = (
        "bundle",
        "clone_parent",
        "console_socket_fd",
        "environment",
        "folder",
        "id",
        "log",
        "no_new_keyring",
        "no_pivot",
        "pages",
        "pid_file",
        "pidfd_socket_fd",
        "preserve_fds",
        "root",
        "rootless",
        "spec",
        "stdio",
        "systemd_cgroup",
    )

    def __init__(
        self,
        id: str,
        bundle: str,
        root: str,
        *,
        console_socket_fd: int = -1,
        pidfd_socket_fd: int = -1,
        pid_file: str = "",
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        preserve_fds: int = 0,
        stdio: tuple[int, int, int] = (0, 1, 2),
        clone_parent: bool = False,
        systemd_cgroup: bool = False,
        log: Logger | None = None,
        spec: dict[str, Any] | None = None,
        pages: Pages | None = None,
        rootless: bool | None = None,
        environment: list[str] | None = None,
    ) -> None:
        self.id = id
        self.rootless = (
            rootless  # whether cgroup permission errors are ignored; None: when the caller isn't root
        )
        self.environment = environment or []  # added to the config's
        self.bundle = bundle
        self.root = root
        self.console_socket_fd = console_socket_fd
        self.pidfd_socket_fd = pidfd_socket_fd  # where a pidfd of the process is sent before it may run
        self.pid_file = pid_file
        self.no_pivot = no_pivot
        self.no_new_keyring = no_new_keyring
        self.preserve_fds = preserve_fds
        self.stdio = stdio
        self.clone_parent = clone_parent
        self.systemd_cgroup = systemd_cgroup
        self.log = log
        self.spec = spec  # config.json when the caller has read it already
        self.pages = pages  # of what this process and init will write to once they share it
        self.folder = ""  # a folder to make in the container's own, for a mount of the spec


class ExecOptions:
    """What a process is started with: `process` as in process.json. Descriptors stay the caller's."""

    __slots__ = (
        "cgroups",
        "clone_parent",
        "console_socket_fd",
        "ignore_paused",
        "pid_file",
        "pidfd_socket_fd",
        "preserve_fds",
        "process",
        "stdio",
    )

    def __init__(
        self,
        process: dict[str, Any],
        *,
        console_socket_fd: int = -1,
        pidfd_socket_fd: int = -1,
        pid_file: str = "",
        stdio: tuple[int, int, int] = (0, 1, 2),
        clone_parent: bool = False,
        preserve_fds: int = 0,
        ignore_paused: bool = False,
        cgroups: list[str] | None = None,
    ) -> None:
        self.process = process
        self.console_socket_fd = console_socket_fd
        self.pidfd_socket_fd = pidfd_socket_fd  # where a pidfd of the process is sent before it may run
        self.pid_file = pid_file
        self.stdio = stdio
        self.clone_parent = clone_parent
        self.preserve_fds = preserve_fds
        self.ignore_paused = ignore_paused
        self.cgroups = cgroups or []
