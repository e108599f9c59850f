"""The start action: one shim per container or group, reachable before the answer is printed.

    daemon --exec--> start --fork--> serve (own process group, listener as fd 3)
             <-- address on stdout --'

The serving process is forked, not executed again: it would boot the same interpreter a second time. What it keeps of
`start` is undone first (streams, signals, title), and ps shows the classic command line.

Spec: containerd docs/runtime-v2.md#start
"""

from __future__ import annotations

import os

from pycontainerd.lib import errdefs, trace
from pycontainerd.lib.api.light import bootstrap_v1, wkt
from pycontainerd.lib.linux import prctl, process
from pycontainerd.lib.oci import document
from pycontainerd.lib.shim_place import join_cgroup, raise_oom_score
from pycontainerd.lib.ttrpc.address import shim_address
from pycontainerd.lib.ttrpc.listener import listen_unless_served
from pycontainerd.shim import options as runtime_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Sequence
    from typing import Final

    from pycontainerd.shim.flags import Flags
    from pycontainerd.shim.options import Options

SOCKET_DIR: Final = "/run/containerd/s"
SOCKET_DIR_ENV: Final = "PYCONTAINERD_SHIM_SOCKET_DIR"
SCHED_CORE_ENV: Final = "SCHED_CORE"  # the daemon's wish that containers share no core with others
GROUP_ANNOTATIONS: Final = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
LISTENER_FD: Final = 3
_MAX_INPUT: Final = 10 << 20


class Bootstrap:
    """What the daemon said on stdin, and in which form it wants its answer: plain, json or protobuf."""

    __slots__ = ("answer_form", "options", "socket_dir")

    def __init__(self, answer_form: str, options: Options, socket_dir: str) -> None:
        self.answer_form = answer_form
        self.options = options
        self.socket_dir = socket_dir


def read_bootstrap(data: bytes, flags: Flags) -> Bootstrap:
    """Tells the three generations apart.

    2.3 and later send BootstrapParams, whose first two fields equal the flags; before that it is an Any of the
    runtime's options, whose first field is a type name. 2.0 to 2.2 understand JSON when they say so in the environment;
    a plain address is understood by all.
    """
    params = _bootstrap_params(data, flags)
    directory = os.environ.get(SOCKET_DIR_ENV) or SOCKET_DIR
    if params is not None:
        options = runtime_options.Options()
        for extension in params.extensions:
            if extension.value.type_url.rpartition("/")[2] == runtime_options.TYPE_NAME:
                options = runtime_options.from_any(extension.value)
        return Bootstrap("protobuf", options, params.socket_dir or directory)
    any_options = wkt.Any.FromString(data) if data else wkt.Any()
    is_ours = any_options.type_url.rpartition("/")[2] == runtime_options.TYPE_NAME
    options = runtime_options.from_any(any_options) if is_ours else runtime_options.Options()
    form = "json" if _max_shim_version() >= 3 else "plain"
    return Bootstrap(form, options, directory)


def _bootstrap_params(data: bytes, flags: Flags) -> bootstrap_v1.BootstrapParams | None:
    if not data:
        return None
    try:
        params = bootstrap_v1.BootstrapParams.FromString(data)
    except (ValueError, errdefs.ContainerdError):
        return None  # not this message: an Any of options has other types in these fields
    if params.instance_id == flags.id and params.namespace == flags.namespace and flags.id:
        return params
    return None


def _max_shim_version() -> int:
    text = os.environ.get("MAX_SHIM_VERSION", "")
    return int(text) if text.isascii() and text.isdigit() else 2


def format_answer(form: str, address: str) -> bytes:
    """What is printed for the daemon."""
    if form == "protobuf":
        return bootstrap_v1.BootstrapResult(version=3, address=address, protocol="ttrpc").SerializeToString()
    if form == "json":
        return document.dumps({"version": 3, "address": address, "protocol": "ttrpc"}).encode()
    return address.encode()


def grouping_id(id: str) -> str:
    """The container whose shim takes this one in, by the annotations of ./config.json."""
    with open("config.json", "rb") as file:
        spec = document.loads(file.read(document.MAX_BYTES))
    annotations = spec.get("annotations") or {}
    for name in GROUP_ANNOTATIONS:
        if name in annotations:
            return str(annotations[name])
    return id


def serving_argv(program: str, flags: Flags) -> list[str]:
    """The command line of the long-lived process, as it is executed by hand and shown by ps."""
    argv = [program, "-namespace", flags.namespace, "-id", flags.id, "-address", flags.address]
    if flags.debug_socket:
        argv += ["-debug-socket", flags.debug_socket]
    return [*argv, "-debug"] if flags.debug else argv


def prepare(
    flags: Flags, stdin: bytes, pids: Sequence[int] = (), *, grouped: bool = True
) -> tuple[_socket.socket | None, bytes]:
    """Makes the socket of ./config.json's container or group, and the bundle's address file.

    `pids` is what goes into the cgroup of ShimCgroup: this process by default, from which the shim is forked. grouped:
    whether a shim may serve several containers; containerd-shim-runc-v1 never did.

    Gives the listener, or None when a shim answers there already, and what to print for the daemon.
    """
    bootstrap = read_bootstrap(stdin, flags)
    serving = grouping_id(flags.id) if grouped else flags.id
    address = shim_address(bootstrap.socket_dir, flags.address, flags.namespace, serving)
    listener = listen_unless_served(address)
    _write_address(address)
    if listener is not None and bootstrap.options.shim_cgroup:
        # Before the fork: a child is born in its parent's cgroup, so there is no moment in which it isn't there.
        for pid in pids or (os.getpid(),):
            join_cgroup(bootstrap.options.shim_cgroup, pid)
    return listener, format_answer(bootstrap.answer_form, address)


def start(flags: Flags, stdin_fd: int, serve: Callable[[], int], *, grouped: bool = True) -> bytes:
    """Makes sure that a shim serves this container; gives what to print. `serve` runs in the new process."""
    with trace.span("shim start", id=flags.id, namespace=flags.namespace):
        listener, answer = prepare(flags, _read_all(stdin_fd), grouped=grouped)
        if listener is not None:
            if os.environ.get(SCHED_CORE_ENV):
                prctl.create_core_scheduling_group()
            raise_oom_score(_fork_server(listener, serve), os.getppid())
            listener.close()
    return answer


def _fork_server(listener: _socket.socket, serve: Callable[[], int]) -> int:
    listener_fd = listener.fileno()

    def child() -> None:
        import _signal

        # A group of its own: what stops the daemon's group doesn't reach it.
        os.setpgid(0, 0)
        os.dup2(listener_fd, LISTENER_FD)
        redirect_to_null()
        os.closerange(LISTENER_FD + 1, 1 << 16)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        trace.after_fork()
        trace.start(os.environ)
        os._exit(serve())

    return process.clone3(child)


def redirect_to_null() -> None:
    """Standard streams to nowhere."""
    null_fd = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null_fd, fd)
    if null_fd > 2:
        os.close(null_fd)


def _write_address(address: str) -> None:
    """For a daemon that restarts, renamed into place so that it never reads half of it."""
    temporary = f".address-{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, address.encode())
    finally:
        os.close(fd)
    os.rename(temporary, "address")


def _read_all(fd: int) -> bytes:
    chunks = []
    size = 0
    while size < _MAX_INPUT:
        data = os.read(fd, 65536)
        if not data:
            break
        chunks.append(data)
        size += len(data)
    return b"".join(chunks)
