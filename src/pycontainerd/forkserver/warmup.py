"""The first steps of every shim, gone through before one is forked: what the interpreter learns from them is shared then.

CPython specialises code that has run some ten times, in place. A shim runs most of its code once, so each one would pay
for it at full length, and copy the pages that the counting is written to. Only steps that leave nothing behind are here:
documents are read and written, messages coded.

Runs in: the forkserver, before gc.freeze
"""

from __future__ import annotations

from pycontainerd.lib import trace
from pycontainerd.lib.api.light import task_v2
from pycontainerd.lib.log import format_text
from pycontainerd.lib.oci import document, template
from pycontainerd.lib.ttrpc.connection import ClientConnection, RequestEvent, ServerConnection
from pycontainerd.runtime.libcontainer import runc_config
from pycontainerd.runtime.libcontainer.config import Config
from pycontainerd.runtime.libcontainer.state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_TIMES: Final = 16
_ID: Final = "warm-up"


def warm_up() -> None:
    """About a tenth of a second."""
    spec = template.template()
    spec["root"]["path"] = "/"  # one that is there
    text = document.dumps(spec)
    for _ in range(_TIMES):
        _read_config(text)
        _answer_create()


def _read_config(text: str) -> None:
    """From config.json to the state.json that a create begins with."""
    with trace.span(_ID):
        config = Config(document.loads(text), id=_ID, bundle="/")
        made = State(_ID, runc_config.to_runc(config), {"devices": f"/{_ID}"})
        document.loads(document.dumps(made.document()))


def _answer_create() -> None:
    """From a request's bytes to those of its answer."""
    client, server = ClientConnection(), ServerConnection()
    message = task_v2.CreateTaskRequest(id=_ID, bundle="/", stdout="/out", stderr="/err")
    service = task_v2.TASK
    client.request(service.name, "Create", message.SerializeToString(), {"containerd-namespace-ttrpc": _ID})
    for event in server.receive(client.take_output()):
        assert isinstance(event, RequestEvent)
        request = task_v2.CreateTaskRequest.FromString(event.request.payload)
        format_text("debug", "CreateTaskRequest", {"bundle": request.bundle, "id": request.id})
        server.respond(event.stream_id, task_v2.CreateTaskResponse(pid=1).SerializeToString())
    for _ in client.receive(server.take_output()):
        pass
