"""Sandboxes: records of what several containers share, and the shims that run them.

Spec: containerd core/sandbox, sandbox.v1 Store and Controller (containerd 2)
"""

from __future__ import annotations

from pycontainerd.lib.api import anys
from pycontainerd.lib.api.light import namespaces_v1, sandbox_v1, types, wkt
from pycontainerd.lib.errdefs import ContainerdError, NotFound, Unimplemented

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from pycontainerd.client.client import Client
    from pycontainerd.lib.api.codec import Message

DEFAULT_CONTROLLER: Final = "shim"
_CONTROLLER_LABEL: Final = "containerd.io/defaults/sandboxer"


def get(client: Client, sandbox_id: str) -> types.Sandbox:
    """A record; NotFound."""
    found: types.Sandbox = _store(client, "Get", sandbox_v1.StoreGetRequest(sandbox_id=sandbox_id)).sandbox
    return found


def walk(client: Client, filters: Sequence[str] = ()) -> list[types.Sandbox]:
    """The records of the namespace."""
    return list(_store(client, "List", sandbox_v1.StoreListRequest(filters=list(filters))).list)


def run(client: Client, sandbox_id: str, runtime: str, spec: bytes) -> types.Sandbox:
    """Makes a sandbox and starts it. Unlike containerd's client, it leaves nothing of one that didn't start."""
    controller = _default_controller(client)
    record = types.Sandbox(
        sandbox_id=sandbox_id,
        runtime=types.Sandbox.Runtime(name=runtime, options=anys.pack(wkt.Empty())),
        spec=wkt.Any(type_url=anys.SPEC_URL, value=spec),
        sandboxer=controller,
    )
    made: types.Sandbox = _store(client, "Create", sandbox_v1.StoreCreateRequest(sandbox=record)).sandbox
    made.sandboxer = controller  # which containerd 1.7 doesn't know
    try:
        _create(client, made)
    except BaseException:
        _store(client, "Delete", sandbox_v1.StoreDeleteRequest(sandbox_id=sandbox_id))
        raise
    try:
        start = sandbox_v1.ControllerStartRequest(sandbox_id=sandbox_id, sandboxer=controller)
        _controller(client, "Start", start)
    except BaseException as error:
        try:
            shut_down(client, made)
        except ContainerdError as second:
            error.add_note(f"it could not be removed either: {second}")
        raise
    return made


def _create(client: Client, record: types.Sandbox) -> None:
    request = sandbox_v1.ControllerCreateRequest(
        sandbox_id=record.sandbox_id, sandboxer=record.sandboxer, sandbox=record
    )
    try:
        _controller(client, "Create", request)
    except ContainerdError as error:
        raise type(error)(
            f"failed to create sandbox with {record.sandboxer} sandboxer: {error}", hint=error.hint
        ) from error


def stop(client: Client, record: types.Sandbox) -> None:
    """Ends what runs in it."""
    request = sandbox_v1.ControllerStopRequest(sandbox_id=record.sandbox_id, sandboxer=record.sandboxer)
    _controller(client, "Stop", request)


def shut_down(client: Client, record: types.Sandbox) -> None:
    """Ends its shim and removes its record; what of the two is gone already is fine."""
    request = sandbox_v1.ControllerShutdownRequest(sandbox_id=record.sandbox_id, sandboxer=record.sandboxer)
    try:
        _controller(client, "Shutdown", request)
    except NotFound:
        pass  # its shim has ended
    except ContainerdError as error:
        raise type(error)(f"failed to shutdown sandbox: {error}", hint=error.hint) from error
    try:
        _store(client, "Delete", sandbox_v1.StoreDeleteRequest(sandbox_id=record.sandbox_id))
    except NotFound:
        return
    except ContainerdError as error:
        raise type(error)(f"failed to delete sandbox from store: {error}", hint=error.hint) from error


def _default_controller(client: Client) -> str:
    """What the namespace's label says, or the shim's."""
    request = namespaces_v1.GetNamespaceRequest(name=client.namespace)
    try:
        labels = client.call(namespaces_v1.NAMESPACES, "Get", request).namespace.labels
    except NotFound:
        return DEFAULT_CONTROLLER
    return labels.get(_CONTROLLER_LABEL) or DEFAULT_CONTROLLER


def _store(client: Client, method: str, request: Message) -> Any:
    try:
        return client.call(sandbox_v1.STORE, method, request)
    except Unimplemented as error:
        raise Unimplemented(
            f"the daemon has no sandboxes: {error}", hint="containerd has them since 1.7"
        ) from error


def _controller(client: Client, method: str, request: Message) -> Any:
    try:
        return client.call(sandbox_v1.CONTROLLER, method, request)
    except Unimplemented as error:
        if not error.hint:
            error.hint = "the runtime's shim has to know the sandbox API: name one that does with --runtime"
        raise
