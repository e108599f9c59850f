"""What is measured, in the order of the table, and what is to be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import api, clients, engines, memory, pulls, records, runtimes, scale, startup
from bench.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.world import Samples, World


class Case:
    """A named measurement."""

    def __init__(
        self,
        name: str,
        measure: Callable[[World, int], Samples],
        unit: str = "ms",
        *,
        aims: dict[str, float] | None = None,
    ) -> None:
        """aims: peer -> the ratio ours / peer that is to be reached."""
        self.name = name
        self.measure = measure
        self.unit = unit
        self.aims = aims or {}


_ONE = pulls.Pull("big", pulls.one_layer)
_EIGHT = pulls.Pull("eight", pulls.eight_layers)
_SMALL = pulls.Pull("small", pulls.small_files)
_ZSTD = pulls.Pull("zstd", pulls.one_layer, "zstd")
_ARCHIVE = pulls.Archive()
_SINGLE, _FIFTY, _TWO_HUNDRED = memory.Containers(1), memory.Containers(50), memory.Containers(200)
_FEW_CONTAINERS, _MANY_CONTAINERS = Records(records.CONTAINERS, 10), Records(records.CONTAINERS, records.MANY)
_FEW_IMAGES, _MANY_IMAGES = Records(records.IMAGES, 10), Records(records.IMAGES, records.MANY)
_FEW_SNAPSHOTS, _MANY_SNAPSHOTS = Records(records.SNAPSHOTS, 10), Records(records.SNAPSHOTS, records.MANY)

CASES = (
    Case("runtime --version", runtimes.runtime_version),
    Case("runtime run /bin/true", runtimes.runtime_run, aims={"runc": 1.0}),
    Case("runtime run, interpreter in memory", runtimes.runtime_run_from_memory, aims={"runc": 1.6}),
    Case("runtime run without the v2 mount", runtimes.runtime_run_without_v2, aims={"crun": 3.0}),
    Case("runtime exec /bin/true", runtimes.runtime_exec, aims={"runc": 1.0}),
    Case("runtime exec without the v2 mount", runtimes.runtime_exec_without_v2),
    Case("daemon start", startup.daemon),
    Case("ctr version", clients.version, aims={"containerd": 2.5}),
    Case("ctr containers ls", clients.container_list, aims={"containerd": 2.5}),
    Case("ctr run --rm", clients.run_rm, aims={"containerd": 0.5}),
    Case("ctr run -d", clients.run_d),
    Case("Debian's ctr run --rm on both daemons", clients.stock_client_run_rm, aims={"containerd": 0.7}),
    Case("API: task create, start, wait, delete", api.life, aims={"containerd": 0.25}),
    Case("ctr task exec", clients.exec_cli, aims={"containerd": 0.8}),
    Case("API: task exec", api.exec_),
    Case("API: event from Publish to subscriber", api.event),
    Case("podman run --rm", engines.podman),
    Case("podman run --rm without the v2 mount", engines.podman_without_v2),
    Case("docker run --rm", engines.docker),
    Case("50 run -d at once", scale.Together(50, 5).wall, aims={"containerd": 0.5}),
    Case("200 run -d at once", scale.Together(200, 2).wall),
    Case("512 MiB of stdout", pulls.throughput),
    Case("pull + unpack 190 MB, one layer", _ONE.wall, aims={"containerd": 0.6}),
    Case("pull + unpack 190 MB, one layer: processor", _ONE.processor, aims={"containerd": 0.6}),
    Case("pull + unpack 190 MB, eight layers", _EIGHT.wall, aims={"containerd": 0.5}),
    Case("pull + unpack 190 MB, eight layers: processor", _EIGHT.processor, aims={"containerd": 0.5}),
    Case("pull + unpack 20,000 small files", _SMALL.wall),
    Case("pull + unpack 20,000 small files: processor", _SMALL.processor),
    Case("pull + unpack 190 MB, zstd", _ZSTD.wall),
    Case("pull + unpack 190 MB, zstd: processor", _ZSTD.processor),
    Case("fetch 190 MB without unpacking", pulls.fetch),
    Case("push 190 MB", _ARCHIVE.push, aims={"containerd": 1.0}),
    Case("import 190 MB", _ARCHIVE.import_),
    Case("list 10 containers", _FEW_CONTAINERS.list),
    Case("list 10,000 containers", _MANY_CONTAINERS.list),
    Case("get of 10 containers", _FEW_CONTAINERS.get),
    Case("get of 10,000 containers", _MANY_CONTAINERS.get),
    Case("create beside 10 containers", _FEW_CONTAINERS.create),
    Case("create beside 10,000 containers", _MANY_CONTAINERS.create),
    Case("list 10 images", _FEW_IMAGES.list),
    Case("list 10,000 images", _MANY_IMAGES.list),
    Case("get of 10 images", _FEW_IMAGES.get),
    Case("get of 10,000 images", _MANY_IMAGES.get),
    Case("create beside 10 images", _FEW_IMAGES.create),
    Case("create beside 10,000 images", _MANY_IMAGES.create),
    Case("list 10 snapshots", _FEW_SNAPSHOTS.list),
    Case("list 10,000 snapshots", _MANY_SNAPSHOTS.list),
    Case("stat of 10 snapshots", _FEW_SNAPSHOTS.get),
    Case("stat of 10,000 snapshots", _MANY_SNAPSHOTS.get),
    Case("prepare beside 10 snapshots", _FEW_SNAPSHOTS.create),
    Case("prepare beside 10,000 snapshots", _MANY_SNAPSHOTS.create),
    Case("PSS of daemon and forkserver, idle", memory.idle, "KiB", aims={"containerd": 1.2}),
    Case("PSS of daemon and forkserver, after 1,000 containers", memory.after_lives, "KiB"),
    Case("private memory of all, by 1 container", _SINGLE.private, "KiB"),
    Case("PSS of all, by 1 container", _SINGLE.pss, "KiB"),
    Case("private memory of a shim, each of 50", _FIFTY.shims, "KiB"),
    Case("private memory of all, by 50 containers", _FIFTY.private, "KiB", aims={"containerd": 0.9}),
    Case("PSS of all, by 50 containers", _FIFTY.pss, "KiB", aims={"containerd": 1.0}),
    Case("private memory of all, by 200 containers", _TWO_HUNDRED.private, "KiB", aims={"containerd": 0.9}),
    Case("PSS of all, by 200 containers", _TWO_HUNDRED.pss, "KiB", aims={"containerd": 1.0}),
)
