"""pyrunc spec."""

from __future__ import annotations

import os

from pycontainerd.lib.errdefs import AlreadyExists
from pycontainerd.lib.oci.document import dumps
from pycontainerd.lib.oci.template import rootless, template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def run(context: Context, values: Values) -> int:
    """Writes config.json; refuses when there is one."""
    if values.text("bundle"):
        os.chdir(values.text("bundle"))
    unified = not os.path.isdir("/sys/fs/cgroup/memory") and os.path.exists(
        "/sys/fs/cgroup/cgroup.controllers"
    )
    spec = template(cgroup_namespace=unified)
    if values.on("rootless"):
        spec = rootless(spec, os.geteuid(), os.getegid())
    try:
        fd = os.open("config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise AlreadyExists("File config.json exists. Remove it first") from None
    try:
        os.write(fd, dumps(spec, "\t").encode())
    finally:
        os.close(fd)
    return 0
