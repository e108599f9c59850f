"""A volume whose folder is swapped for a symlink all the time, while containers that mount into it start (R05, R06).

CVE-2021-30465 mounted on the host, CVE-2024-45310 made files there. The link leads to a folder of the host, which stays as it is.
"""

from __future__ import annotations

import ctypes
import os
import threading

from support import leaks

_RENAMEAT2 = {"x86_64": 316, "aarch64": 276}[os.uname().machine]
_EXCHANGE = 2


class Swapper:
    """Exchanges two names as quickly as it can."""

    def __init__(self, first: str, second: str) -> None:
        self._names = os.fsencode(first), os.fsencode(second)
        self._end = False
        self.swaps = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        syscall = ctypes.CDLL(None, use_errno=True).syscall  # without the interpreter's lock
        while not self._end:
            assert syscall(_RENAMEAT2, -100, self._names[0], -100, self._names[1], _EXCHANGE) == 0
            self.swaps += 1

    def end(self) -> None:
        self._end = True
        self._thread.join()


def test_nothing_of_the_host_is_mounted_on_or_made(runtime, bundle, short_tmp, amount):
    canary, volume = short_tmp / "canary", short_tmp / "volume"
    for folder in (canary, volume, volume / "dir", bundle.rootfs / "mnt/v"):
        folder.mkdir()
    (canary / "secret").write_text("SECRET")
    (volume / "link").symlink_to(canary)
    bundle.mount("/mnt/v", "bind", str(volume), "bind")
    bundle.mount("/mnt/v/dir/made", "tmpfs", "tmpfs", "size=64k")
    bundle.mount("/mnt/v/dir/file", "bind", "/etc/hostname", "bind")
    path = bundle.writable().args("ls", "/mnt/v/dir").build()
    mounts = leaks.mounts()
    swapper = Swapper(str(volume / "dir"), str(volume / "link"))
    try:
        for number in range(amount(10, 2000)):
            assert "SECRET" not in runtime.run(path, f"c{number}").out
            assert os.listdir(canary) == ["secret"], number
    finally:
        swapper.end()
    assert swapper.swaps > 1000
    assert leaks.mounts() == mounts
