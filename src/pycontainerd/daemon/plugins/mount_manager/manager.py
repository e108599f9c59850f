"""The mount manager: activations in the metadata, their mounts in folders below the state folder.

    t/ID/N        a mount point, or a link to a loop device; N counts down, so that 1 is unmounted first
    t/ID/N-type   what was made there
    t/ID/N-file   device and inode numbers of the file behind a loop device

An activation is a row first and a folder then; a folder without a row goes with the next collection, and a row whose
mounts are gone (the machine was restarted) goes when the daemon starts.

Spec: containerd core/mount/manager (semantics and error texts), docs/mounts.md
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pycontainerd.daemon.core import activations, files, filters
from pycontainerd.daemon.core import labels as label
from pycontainerd.daemon.core.activations import Activation, ActiveMount
from pycontainerd.daemon.core.locks import SharedLock
from pycontainerd.daemon.core.snapshots import Mount
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import ContainerdError, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pycontainerd.daemon.core.activations import Plan, Step
    from pycontainerd.daemon.core.scope import Scope
    from pycontainerd.daemon.plugins.metadata_sqlite.activations import SqliteActivations
    from pycontainerd.lib.log import Logger


class SqliteMountManager:
    """Implements core.activations.MountManager. What mounting needs is imported with the first mount."""

    def __init__(self, targets: str, root: str, store: SqliteActivations, log: Logger) -> None:
        """`targets` is the folder of the mounts; transformers may make things in it and in `root`."""
        self._targets = targets
        self._roots = (targets, root)
        self._store = store
        self._log = log
        self._sweep_lock = SharedLock()
        self._busy: set[str] = set()
        self._changed = threading.Condition()

    def activate(
        self,
        scope: Scope,
        name: str,
        mounts: Sequence[Mount],
        labels: Mapping[str, str],
        *,
        temporary: bool,
        allowed: Collection[str] = (),
    ) -> Activation:
        wanted = label.stored(labels)
        with self._alone(name):
            plan = activations.plan(mounts, temporary=temporary, allowed=allowed)
            with self._sweep_lock.shared(), trace.span("mounts.activate", activation=name):
                number = self._store.begin(scope, name, wanted)
                try:
                    made = self._perform(f"{self._targets}/{number}", plan, temporary=temporary)
                    done = replace(made, name=name, labels=wanted)
                    self._store.finish(scope, done)
                except BaseException:
                    self._store.remove(scope, name)
                    raise
        return done

    def deactivate(self, scope: Scope, name: str) -> None:
        with self._alone(name), self._sweep_lock.shared(), trace.span("mounts.deactivate", activation=name):
            self._undo(f"{self._targets}/{self._store.remove(scope, name)}")

    def info(self, scope: Scope, name: str) -> Activation:
        return self._store.get(scope, name)

    def update(self, scope: Scope, activation: Activation, paths: Sequence[str]) -> Activation:
        del scope, activation, paths
        raise Unimplemented("not implemented")

    def list(self, scope: Scope, filter_texts: Sequence[str]) -> Sequence[Activation]:
        matches = filters.parse_request(filter_texts)
        return [found for found in self._store.list(scope) if matches(activations.adaptor(found))]

    def sync(self) -> None:
        """Forgets what isn't mounted any more and what was never mounted whole. Once, before anything else."""
        rows = self._store.everywhere()
        if not rows:
            return
        from pycontainerd.daemon.plugins.mount_manager import attach
        from pycontainerd.lib.mounts import mount_points

        mounted = frozenset(mount_points())
        for scope, name, active in rows:
            if active is None or not attach.are_there(active, mounted):
                self._log.warning("activation is not mounted any more", namespace=scope.namespace, name=name)
                self._store.remove(scope, name)

    def sweep(self) -> bool:
        """Takes away every folder that is no activation's; one that resists is logged, and the answer is False."""
        with self._sweep_lock.exclusive():
            if not os.path.isdir(self._targets):
                return True
            kept = self._store.numbers()
            garbage = [
                n for n in os.listdir(self._targets) if n.isascii() and n.isdecimal() and int(n) not in kept
            ]
        left = 0
        for name in garbage:
            try:
                self._undo(f"{self._targets}/{name}")
            except (ContainerdError, OSError) as e:
                self._log.error("mounts of no activation could not be removed", folder=name, error=str(e))
                left += 1
        return not left

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Two calls for one name come one after the other."""
        with self._changed:
            self._changed.wait_for(lambda: name not in self._busy)
            self._busy.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._busy.remove(name)
                self._changed.notify_all()

    def _perform(self, folder: str, plan: Plan, *, temporary: bool) -> Activation:
        """Makes the plan's mounts; when one fails, none is left."""
        from pycontainerd.daemon.plugins.mount_manager import attach

        files.make_dir(self._targets, 0o700)
        self._undo(folder)  # another root's, when the state folder is older than this one's metadata
        os.mkdir(folder, 0o700)
        active: list[ActiveMount] = []
        width = 1 + (len(plan.made) > 10) + (len(plan.made) > 100)  # the same names as containerd's
        try:
            for index, step in enumerate(plan.made):
                mount = self._transformed(step, active)
                point = f"{folder}/{len(plan.made) - index:0{width}}"
                files.write_atomic(point + attach.TYPE, mount.type.encode(), 0o600)
                with trace.span("mounts.make", type=mount.type, target=point):
                    attach.make(mount, point)
                active.append(ActiveMount(mount, point, time.time_ns()))
            system = [step.mount for step in plan.system]
            if plan.system:
                system[0] = self._transformed(plan.system[0], active)
        except BaseException:
            self._undo(folder)
            raise
        if temporary:
            system.append(Mount("bind", active[-1].mount_point, ("rbind",)))
        return Activation("", active, system)

    def _transformed(self, step: Step, active: Sequence[ActiveMount]) -> Mount:
        """A mount after its transformers, each of which sees what the one before made of it."""
        mount = step.mount
        for transformer in step.transformers:
            if transformer == "format":
                from pycontainerd.daemon.plugins.mount_manager import format as formatter

                mount = formatter.transform(mount, active)
            else:
                from pycontainerd.daemon.plugins.mount_manager import prepare

                make = prepare.make_dirs if transformer == "mkdir" else prepare.make_file_system
                mount = make(mount, self._roots)
        return replace(mount, type=step.kind)

    def _undo(self, folder: str) -> None:
        from pycontainerd.daemon.plugins.mount_manager import attach

        attach.remove_all(folder)
