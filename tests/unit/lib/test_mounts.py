"""Mount options, and overlays of more layers than one page of options holds."""

import pytest

from pycontainerd.lib import errdefs, mounts
from pycontainerd.lib.linux import mount


@pytest.mark.parametrize(
    ("options", "flags", "data"),
    [
        (["ro", "nosuid"], mount.MS_RDONLY | mount.MS_NOSUID, []),
        (["ro", "rw"], 0, []),
        (["rbind", "ro"], mount.MS_BIND | mount.MS_REC | mount.MS_RDONLY, []),
        (["index=off", "workdir=/w", "lowerdir=/a:/b"], 0, ["index=off", "workdir=/w", "lowerdir=/a:/b"]),
        (["defaults", "size=1m", "noexec"], mount.MS_NOEXEC, ["size=1m"]),
    ],
)
def test_options(options: list[str], flags: int, data: list[str]) -> None:
    assert mounts.parse_options(options) == (flags, data)


def test_loop_mounts_are_refused_not_ignored() -> None:
    with pytest.raises(errdefs.Unimplemented):
        mounts.parse_options(["loop"])
