"""Running one CNI plugin: found by its type, told by environment and stdin, its answer or its error by stdout.

Spec: CNI specification 1.0 section 2 (execution protocol), section 5 (result types)
"""

from __future__ import annotations

import os

from pycontainerd.lib import go_json, trace
from pycontainerd.lib.errdefs import DeadlineExceeded, InvalidArgument, NotFound, Unknown
from pycontainerd.lib.linux.libc import go_error

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from subprocess import CompletedProcess
    from typing import Any, Final

    Result = dict[str, Any]

FOLDERS: Final = ("/opt/cni/bin", "/usr/lib/cni")
_TIMEOUT_S: Final = 60
_RESULT_VERSIONS: Final = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


def find(kind: str) -> str:
    """The path of the plugin of a type; what is refused says so in libcni's words."""
    if "/" in kind:
        raise InvalidArgument(f"invalid plugin name: {kind}")
    for folder in FOLDERS:
        if os.path.isfile(f"{folder}/{kind}"):
            return f"{folder}/{kind}"
    raise NotFound(
        f'failed to find plugin "{kind}" in path [{" ".join(FOLDERS)}]', hint="install the CNI plugins"
    )


def run(command: str, plugin: dict[str, Any], environment: dict[str, str]) -> bytes:
    """What the plugin has written; its error, as libcni prints it, as Unknown. `plugin` is its part of the configuration."""
    import json
    import subprocess

    program = find(plugin["type"])
    told = {"CNI_ARGS": "", "CNI_COMMAND": command, "CNI_PATH": ":".join(FOLDERS), **environment}
    with trace.span("cni", plugin=plugin["type"], command=command):
        try:
            done = subprocess.run(
                [program],
                input=json.dumps(plugin, sort_keys=True, separators=(",", ":")).encode(),
                capture_output=True,
                env={**os.environ, **told},
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded(f"netplugin did not end within {_TIMEOUT_S} seconds") from error
        except OSError as error:
            text = f"fork/exec {program}: {go_error(error.errno or 0)}"
            raise Unknown(f"netplugin failed with no error message: {text}") from error
    if done.returncode:
        raise Unknown(_reason(done))
    if done.stderr:
        os.write(2, done.stderr)
    return done.stdout


def result(data: bytes, version: str) -> Result:
    """An answer to ADD; one that names no version has the configuration's."""
    try:
        answer = go_json.load_map(data)
    except InvalidArgument as error:
        raise Unknown(f"failed to unmarshal raw result: {error}") from error
    named = answer.get("cniVersion")
    if not (isinstance(named, str) and named):
        answer["cniVersion"] = version
    elif named not in _RESULT_VERSIONS:
        raise Unknown(f'unsupported CNI result version "{named}"')
    return answer


def _reason(done: CompletedProcess[bytes]) -> str:
    """Why a plugin failed: by its answer, else by what it said on stderr, else by how it ended."""
    if done.stdout:
        return _answered_reason(done.stdout)
    if done.stderr:
        return f"netplugin failed: {_quote(done.stderr)}"
    code = done.returncode
    ended = f"exit status {code}" if code > 0 else f"signal: {_signal_name(-code)}"
    return f"netplugin failed with no error message: {ended}"


def _answered_reason(data: bytes) -> str:
    try:
        reply = go_json.loads(data)
        _check_error(reply)
    except InvalidArgument as error:
        return f"netplugin failed but error parsing its diagnostic message {_quote(data)}: {error}"
    reply = reply or {}
    details = reply.get("details") or ""
    return f"{reply.get('msg') or ''}{'; ' if details else ''}{details}"


def _check_error(reply: object) -> None:
    if reply is not None and not isinstance(reply, dict):
        raise InvalidArgument(
            f"json: cannot unmarshal {go_json.kind(reply)} into Go value of type types.Error"
        )
    for key, value in (reply or {}).items():
        wanted, go_type = {
            "code": ("number", "uint"),
            "msg": ("string", "string"),
            "details": ("string", "string"),
        }.get(key, ("", ""))
        if wanted and go_json.kind(value) not in (wanted, "null"):
            into = f"Go struct field Error.{key} of type {go_type}"
            raise InvalidArgument(f"json: cannot unmarshal {go_json.kind(value)} into {into}")


def _signal_name(number: int) -> str:
    """A signal in the words of Go's syscall package: `killed`."""
    import signal

    return (signal.strsignal(number) or f"signal {number}").lower()


def _quote(data: bytes) -> str:
    """Bytes as Go's %q prints them, where they are text."""
    from _json import encode_basestring

    quoted: str = encode_basestring(data.decode("utf-8", "replace"))
    return quoted
