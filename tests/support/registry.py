"""A real docker-registry on loopback, filled by skopeo."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

from support.programs import TOP, free_port, peer, peer_environment


class Registry:
    """Starts on construction; `close` ends it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        root.mkdir(parents=True, exist_ok=True)
        config = root / "config.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n"
            f'http: {{addr: "{self.host}"}}\n'
        )
        with (root / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [peer("docker-registry"), "serve", str(config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, (root / "log").read_text()
                time.sleep(0.05)

    def close(self) -> None:
        """Ends the registry."""
        self.process.terminate()
        self.process.wait(timeout=10)

    def push_layout(self, layout: Path, name: str) -> str:
        """Pushes an OCI layout's `latest` under `name` with skopeo; the full reference."""
        reference = f"{self.host}/{name}"
        subprocess.run(
            [
                peer("skopeo"), "--insecure-policy", "copy", "-q", "--dest-tls-verify=false",
                f"oci:{layout}:latest", f"docker://{reference}",
            ],
            check=True,
            env=peer_environment(),
        )  # fmt: skip
        return reference

    def push_busybox(self, name: str = "library/busybox:latest") -> str:
        """Pushes an image of the static busybox; the full reference."""
        layout = self.root / "busybox"
        if not layout.exists():
            subprocess.run(
                [sys.executable, str(TOP / "scripts/busybox_image.py"), peer("busybox"), str(layout)],
                check=True,
            )
        return self.push_layout(layout, name)
