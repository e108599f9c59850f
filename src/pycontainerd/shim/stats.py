"""What a container uses, from its cgroups, in containerd's messages.

Spec: io.containerd.cgroups.v1.Metrics, io.containerd.cgroups.v2.Metrics
"""

from __future__ import annotations

from pycontainerd.lib import errdefs


def collect(pid: int) -> object:
    """The metrics of the cgroups that `pid` is in. Raises NotFound when they are gone."""
    raise errdefs.Unimplemented("stats need the cgroup library")
