"""Who has been told of which exit: every end of a process is reported once, with the right code.

Shims forward their own exits, and some try again after a daemon that was away; the daemon itself speaks for shims that
died, and for those that gave up. The first report of an exit wins. That a task's own exit was reported is also written
into its bundle, so that a restarted daemon knows. What a shim tells a daemon that has just started, before its clients are
back, is told again to the first of them.

Spec: containerd runtime v2 events (/tasks/exit before /tasks/delete, both once)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pycontainerd.daemon.core import files
from pycontainerd.daemon.core.tasks import Exit
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.lib.api import anys
from pycontainerd.lib.api.full import events, wkt

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pycontainerd.daemon.core.events import Envelope

    Publish = Callable[[str, str, TypedValue], None]

_MARK: Final = "exit-reported"


class ExitReports:
    """`admit` is asked about every event before it goes out. Runs on the event loop."""

    def __init__(self, states: Sequence[str], publish: Publish, is_heard: Callable[[], bool]) -> None:
        """states: the folders in which bundles are, by namespace and id. is_heard: whether somebody has listened yet."""
        self._states = states
        self._publish = publish
        self._is_heard = is_heard
        self._reported: dict[tuple[str, str], dict[str, Exit]] = {}
        # (namespace, container, process) of exits reported to nobody; None once it is clear who was there to listen.
        self._unheard: list[tuple[str, str, str]] | None = []

    def admit(self, envelope: Envelope) -> bool:
        """False for the second report of an exit."""
        if envelope.topic == "/tasks/exit":
            message = events.TaskExit.FromString(envelope.event.value)
            end = Exit(message.pid, message.exit_status, _nanos(message.exited_at))
            return self._note(envelope.namespace, message.container_id, message.id, end)
        if envelope.topic == "/tasks/delete":
            deleted = events.TaskDelete.FromString(envelope.event.value)
            if not deleted.id or deleted.id == deleted.container_id:
                self._reported.pop((envelope.namespace, deleted.container_id), None)
            else:
                self._reported.get((envelope.namespace, deleted.container_id), {}).pop(deleted.id, None)
        return True

    def was_reported(self, namespace: str, id: str) -> bool:
        """Whether clients were told that a task's init ended, by this daemon or an earlier one."""
        known = id in self._reported.get((namespace, id), {})
        return known or any(os.path.exists(f"{state}/{namespace}/{id}/{_MARK}") for state in self._states)

    def report_exit(self, namespace: str, id: str, end: Exit) -> None:
        """Publishes the exit of a task's init for a shim that didn't."""
        self._publish_exit(namespace, id, id, end)

    def report_unheard(self, containers: Collection[tuple[str, str]]) -> None:
        """Publishes again which of these containers' processes ended before anybody listened. Once, after a start."""
        unheard, self._unheard = self._unheard or [], None
        for namespace, container_id, process_id in unheard:
            reported = self._reported.get((namespace, container_id), {})
            # Who has deleted it knows its end.
            if (namespace, container_id) in containers and process_id in reported:
                self._publish_exit(namespace, container_id, process_id, reported.pop(process_id))

    def _publish_exit(self, namespace: str, container_id: str, process_id: str, end: Exit) -> None:
        message = events.TaskExit(
            container_id=container_id,
            id=process_id,
            pid=end.pid,
            exit_status=end.status,
            exited_at=_timestamp(end.exited_nanos),
        )
        self._publish(namespace, "/tasks/exit", _typed(message))

    def report_lost(self, namespace: str, id: str, end: Exit) -> None:
        """Publishes exit and delete of a task whose shim died; an exit that was reported before keeps its code."""
        end = self._reported.get((namespace, id), {}).get(id, end)
        self.report_exit(namespace, id, end)
        message = events.TaskDelete(
            container_id=id, pid=end.pid, exit_status=end.status, exited_at=_timestamp(end.exited_nanos)
        )
        self._publish(namespace, "/tasks/delete", _typed(message))

    def _note(self, namespace: str, container_id: str, process_id: str, end: Exit) -> bool:
        reported = self._reported.setdefault((namespace, container_id), {})
        earlier = reported.get(process_id)
        if earlier is not None and earlier.pid == end.pid:
            return False
        reported[process_id] = end
        if self._unheard is not None and not self._is_heard():
            self._unheard.append((namespace, container_id, process_id))
        if process_id == container_id:
            for state in self._states:
                folder = f"{state}/{namespace}/{container_id}"
                if os.path.isdir(folder):
                    files.write_atomic(f"{folder}/{_MARK}", str(end.status).encode(), 0o600)
        return True


def _typed(message: object) -> TypedValue:
    return TypedValue(anys.full_name(message), message.SerializeToString())  # type: ignore[attr-defined]  # upb


def _timestamp(nanos: int) -> wkt.Timestamp:
    return wkt.Timestamp(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def _nanos(message: wkt.Timestamp) -> int:
    return message.seconds * 1_000_000_000 + message.nanos
