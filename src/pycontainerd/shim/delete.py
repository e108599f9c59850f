"""The delete action: cleans up what a shim that died has left, and says how the container ended.

Runs without a shim, without a loop, with the bundle's files as its only knowledge. Prints a DeleteResponse.

Spec: containerd docs/runtime-v2.md#delete
"""

from __future__ import annotations

import os
from time import time_ns

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.api.light import task_v2
from pycontainerd.lib.linux import posix_spawn
from pycontainerd.shim import libcontainer, rootfs
from pycontainerd.shim import options as runtime_options
from pycontainerd.shim.runc import DEFAULT_NAME, read_pid_file
from pycontainerd.shim.service import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.lib.log import Logger
    from pycontainerd.shim.flags import Flags
    from pycontainerd.shim.options import Options

KILLED: Final = 137  # 128 + SIGKILL: what a container is taken to have ended with when nobody saw it end


def delete(flags: Flags, log: Logger) -> bytes:
    """Removes container, mounts and socket; what can't be removed is logged, and the answer is given all the same."""
    bundle = os.path.join(os.path.dirname(os.getcwd()), flags.id)
    options = runtime_options.load(bundle)
    with trace.span("shim delete", id=flags.id):
        _delete_container(bundle, flags, options, log)
        try:
            rootfs.unmount_recursive(f"{bundle}/rootfs")
        except OSError as e:
            log.warning("failed to cleanup rootfs mount", error=e)
    pid = 0
    if os.path.exists(f"{bundle}/init.pid"):
        pid = read_pid_file(f"{bundle}/init.pid", "failed to read init pid file")
    return task_v2.DeleteResponse(
        pid=pid, exit_status=KILLED, exited_at=timestamp(time_ns())
    ).SerializeToString()


def _delete_container(bundle: str, flags: Flags, options: Options, log: Logger) -> None:
    root = options.runtime_root(flags.address, flags.namespace)
    if options.is_in_process:
        try:
            libcontainer.delete_now(root, flags.id)
        except (errdefs.ContainerdError, OSError) as e:
            log.warning("failed to remove runc container", error=e)
        return
    name = options.binary_name or DEFAULT_NAME
    argv = [name, "--root", root, "--log", f"{bundle}/log.json", "--log-format", "json"]
    try:
        pid = posix_spawn.start([*argv, "delete", "--force", flags.id], posix_spawn.environment(), {})
    except OSError as e:
        log.warning("failed to remove runc container", error=e)
        return
    _, status = os.waitpid(pid, 0)
    if status:
        log.warning(
            "failed to remove runc container", error=f"exit status {os.waitstatus_to_exitcode(status)}"
        )
