"""How a shim comes to life: the port, and the standard way by exec.

A starter takes what containerd's command line says and returns what the shim answered. The forkserver's starter has
the same contract, the same argv on the process and the same state on disk.

Spec: containerd docs/runtime-v2.md#start, #delete
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from google.protobuf.message import DecodeError

from pycontainerd.daemon.core.scope import now_nanos
from pycontainerd.daemon.plugins.runtime_v2.shim import exit_of
from pycontainerd.lib import trace
from pycontainerd.lib.api.full import bootstrap_v1, task_v2, wkt
from pycontainerd.lib.errdefs import DeadlineExceeded, Unimplemented, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontainerd.daemon.core.blocking import Pools
    from pycontainerd.daemon.core.tasks import Exit
    from pycontainerd.daemon.core.typed import TypedValue
    from pycontainerd.lib.log import Logger

T = TypeVar("T")
MAX_SHIM_VERSION: Final = 3
_START_TIMEOUT_S: Final = 60
_CLEANUP_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class ShimCommand:
    """What every command line of a shim is made of."""

    binary: str
    namespace: str
    id: str
    bundle: str
    address: str
    ttrpc_address: str
    publish_binary: str
    debug: bool = False
    env: Sequence[str] = field(default=())

    def start_argv(self) -> list[str]:
        """Exactly containerd's order: tools read it from `ps`."""
        argv = [self.binary, "-namespace", self.namespace, "-address", self.address]
        argv += ["-publish-binary", self.publish_binary, "-id", self.id]
        if self.debug:
            argv.append("-debug")
        return [*argv, "start"]

    def delete_argv(self) -> list[str]:
        """The clean-up after a shim that died."""
        argv = [self.binary, "-namespace", self.namespace, "-address", self.address]
        argv += ["-publish-binary", self.publish_binary, "-id", self.id, "-bundle", self.bundle]
        return [*argv, "delete"]

    def clean_up(self, timeout_s: float) -> tuple[Exit, str]:
        """What a shim that died has left, by its `delete`; how the task ended, and warnings. Blocking; Unknown."""
        output, warnings = run_delete(self, timeout_s)
        try:
            end = exit_of(task_v2.DeleteResponse.FromString(output))
        except DecodeError as e:
            raise Unknown("shim delete: what it printed is no DeleteResponse") from e
        return (end if end.exited_nanos else replace(end, exited_nanos=now_nanos())), warnings

    def environment(self) -> dict[str, str]:
        """The daemon's own environment and what shims expect in theirs."""
        env = dict(os.environ)
        env |= dict(item.partition("=")[::2] for item in self.env)
        env |= {
            "GOMAXPROCS": "2",
            "MAX_SHIM_VERSION": str(MAX_SHIM_VERSION),
            "TTRPC_ADDRESS": self.ttrpc_address,
            "GRPC_ADDRESS": self.address,
            "NAMESPACE": self.namespace,
        }
        return {**env, **trace.environment()}


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """A shim's answer: where it listens, and which version of the task API it speaks there."""

    address: str
    version: int = 2
    protocol: str = "ttrpc"

    def dump(self) -> bytes:
        """The bytes of bootstrap.json."""
        row = {"version": self.version, "address": self.address, "protocol": self.protocol}
        return json.dumps(row, separators=(",", ":")).encode()


class ShimStarter(Protocol):
    """Starts shims. Async; raises errdefs."""

    async def warm(self) -> None:
        """Prepares for the first shim; never fails."""
        ...

    async def start(self, command: ShimCommand, options: TypedValue | None) -> Bootstrap:
        """Returns once the shim listens."""
        ...

    async def close(self) -> None:
        """Lets go of helpers; shims stay."""
        ...


class ExecStarter:
    """Runs the shim's binary with `start`, as containerd does."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def warm(self) -> None:
        """Nothing to prepare."""

    async def start(self, command: ShimCommand, options: TypedValue | None) -> Bootstrap:
        stdin = encode_options(options)
        with trace.span("shim.exec", id=command.id, binary=command.binary):
            return parse_bootstrap(await self._pools.run("shims", _run_start, command, stdin))

    async def close(self) -> None:
        """Holds nothing."""


def encode_options(options: TypedValue | None) -> bytes:
    """What `start` reads from stdin: the Any of the runtime options, or nothing."""
    if options is None:
        return b""
    return bytes(wkt.Any(type_url=options.type_url, value=options.value).SerializeToString())


def parse_bootstrap(output: bytes) -> Bootstrap:
    """All three answers shims give: JSON, protobuf, or just an address (task API v2 over ttrpc)."""
    text = output.strip()
    if text.startswith(b"{"):
        bootstrap = _from_json(text)
    elif text.startswith((b"unix:", b"/", b"vsock:")):
        bootstrap = Bootstrap(text.decode())
    else:
        bootstrap = _from_proto(output)
    if bootstrap.version > MAX_SHIM_VERSION:
        raise Unimplemented(
            f"unsupported shim version ({bootstrap.version}): not implemented",
            hint=f"this daemon speaks shim versions up to {MAX_SHIM_VERSION}",
        )
    if bootstrap.protocol != "ttrpc":
        raise Unimplemented(f"unsupported shim protocol {bootstrap.protocol!r}: not implemented")
    if not bootstrap.address:
        raise Unknown("shim gave no address to connect to")
    return bootstrap


def run_delete(command: ShimCommand, timeout_s: float) -> tuple[bytes, str]:
    """Runs the shim's `delete`; (stdout, stderr). Blocking; Unknown with its stderr when it fails."""
    with trace.span("shim.delete", id=command.id):
        process = subprocess.Popen(
            command.delete_argv(),
            cwd=command.bundle,
            env=command.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        output, errors = _communicate(process, None, timeout_s, "shim delete")
    text = errors.decode("utf-8", "replace")
    if process.returncode != 0:
        raise Unknown(f"{text}: {_exit_text(process.returncode)}")
    return output, text


async def patiently(pools: Pools, log: Logger, clean_up: Callable[[float], T], timeout_s: float) -> T:
    """What a clean-up says; where it took too long, once more with twice the time. Raises as the last one does.

    On a busy machine it may be slow, and what it leaves nobody else removes.
    """
    for _ in range(_CLEANUP_TRIES - 1):
        try:
            return await pools.run("shims", clean_up, timeout_s)
        except DeadlineExceeded as e:
            log.warning("cleaning up once more, with twice the time", error=str(e))
            timeout_s *= 2
    return await pools.run("shims", clean_up, timeout_s)


def _run_start(command: ShimCommand, stdin: bytes) -> bytes:
    try:
        process = subprocess.Popen(
            command.start_argv(),
            cwd=command.bundle,
            env=command.environment(),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    except OSError as e:
        raise Unknown(
            f": fork/exec {command.binary}: {(e.strerror or str(e)).lower()}", errno=e.errno or 0
        ) from e
    output, _ = _communicate(process, stdin or None, _START_TIMEOUT_S, "shim start")
    if process.returncode != 0:
        raise Unknown(f"{output.decode('utf-8', 'replace')}: {_exit_text(process.returncode)}")
    return output


def _communicate(
    process: subprocess.Popen[bytes], stdin: bytes | None, timeout_s: float, what: str
) -> tuple[bytes, bytes]:
    try:
        output, errors = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired as e:
        process.kill()
        process.wait()
        raise DeadlineExceeded(
            f"{what} took longer than {timeout_s:g} seconds: context deadline exceeded"
        ) from e
    return output or b"", errors or b""


def _exit_text(code: int) -> str:
    import signal

    return f"exit status {code}" if code >= 0 else f"signal: {signal.strsignal(-code)}".lower()


def _from_json(text: bytes) -> Bootstrap:
    try:
        row = json.loads(text)
        return Bootstrap(str(row["address"]), int(row.get("version", 2)), str(row.get("protocol") or "ttrpc"))
    except (ValueError, KeyError, TypeError) as e:
        raise Unknown(
            f"shim answered with bad bootstrap parameters: {text[:200].decode('utf-8', 'replace')}"
        ) from e


def _from_proto(output: bytes) -> Bootstrap:
    from google.protobuf.message import DecodeError

    try:
        result = bootstrap_v1.BootstrapResult.FromString(output)
    except DecodeError as e:
        shown = output[:200].decode("utf-8", "replace")
        raise Unknown(f"shim answered with bad bootstrap parameters: {shown}") from e
    return Bootstrap(result.address, int(result.version) or 2, result.protocol or "ttrpc")
