"""podman and buildah in a machine of their own, calling the runtime under test by argv."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from support import images
from support.machine import RUNTIMES, Machine, remove_cgroups
from support.programs import peer, peer_environment

if TYPE_CHECKING:
    from pathlib import Path

# libpod asks for JSON in the runtime's log only where its name is listed; the limits are a machine's without CAP_SYS_RESOURCE.
_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["crun", "runc", "pyrunc"]
[engine.runtimes]
pyrunc = ["{pyrunc}"]
runc = ["{runc}"]
"""
# podman 4 would look for netavark, which its Debian has in a package of its own; 5 knows nothing else.
_CNI = """
[network]
network_backend = "cni"
"""
_STORAGE_CONF = """
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "{state}/graph"
"""


class Podman:
    """`podman --runtime NAME` with storage of its own and a busybox image."""

    def __init__(self, folder: Path, runtime: str, *, without_v2: bool = False) -> None:
        """without_v2: the machine has no v2 hierarchy beside the v1 ones."""
        self.machine = Machine(folder)
        if without_v2:
            self.machine("umount", "/sys/fs/cgroup/unified")  # fails where there is none
        self.runtime = runtime
        conf, storage = folder / "containers.conf", folder / "storage.conf"
        conf.write_text(_CONTAINERS_CONF.format(**RUNTIMES) + ("" if _major_version() > 4 else _CNI))
        storage.write_text(_STORAGE_CONF.format(state=self.machine.state))
        self._env = {
            "CONTAINERS_CONF": str(conf),
            "CONTAINERS_STORAGE_CONF": str(storage),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }
        try:
            archive = docker_archive(folder, "docker.io/library/busybox:latest")
            self.ok("load", "-q", "-i", str(archive))
            # The first container makes the engine's cgroups, which stay.
            self.ok("run", "--rm", "--network", "none", "busybox", "true")
        except BaseException:
            self.close()
            raise

    def argv(self, *words: str) -> list[str]:
        """podman's command line, to be run outside the machine."""
        return self.machine.argv("podman", "--runtime", self.runtime, *words)

    @property
    def environment(self) -> dict[str, str]:
        """For `argv`."""
        return self.machine.environment(**self._env)

    def __call__(self, *words: str, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return self.machine(
            "podman", "--runtime", self.runtime, *words, stdin=stdin, timeout=timeout, env=self._env
        )

    def ok(self, *words: str, stdin: str = "") -> str:
        """Output of a command that must succeed."""
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, done
        return done.stdout

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """`podman run --rm` without a network."""
        return self("run", "--rm", "--network", "none", *words, stdin=stdin)

    def detached(self, *words: str) -> str:
        """A container in the background; its id."""
        return self.ok("run", "-d", "--network", "none", *words).strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """What podman knows of a container."""
        found: dict[str, Any] = json.loads(self.ok("inspect", "--type", "container", name))[0]
        return found

    def buildah(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """buildah on the same storage."""
        return self.machine("buildah", *words, timeout=timeout, env=self._env)

    def close(self) -> None:
        """Ends every container and the machine."""
        try:
            self("rm", "--all", "--force", "--time", "0")
        finally:
            self.machine.close()
            remove_cgroups("libpod_parent")


def _major_version() -> int:
    """podman's."""
    words = subprocess.run(
        [peer("podman"), "--version"], env=peer_environment(), check=True, capture_output=True, text=True
    ).stdout.split()
    return int(words[2].partition(".")[0])


def docker_archive(folder: Path, reference: str) -> Path:
    """A `docker save` archive of busybox, written by skopeo from a layout of ours."""
    layout, archive = images.build_layout(folder / "layout"), folder / "busybox.tar"
    subprocess.run(
        [peer("skopeo"), "--insecure-policy", "copy", "-q", "--override-arch", "amd64", f"oci:{layout}:latest",
         f"docker-archive:{archive}:{reference}"],
        env=peer_environment(), check=True, capture_output=True,
    )  # fmt: skip
    return archive
