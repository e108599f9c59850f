"""A new filesystem as a detached mount.

Man:     fsopen(2), fsconfig(2), fsmount(2)
Runs in: init (child side), before pivot_root
"""

from __future__ import annotations

import os

from pycontainerd.lib.linux import mount as m


def new_filesystem(fstype: str, source: str, words: list[str], attr: int) -> int:
    """A detached mount of a new superblock; the caller's to attach and close."""
    context_fd = m.fsopen(fstype)
    try:
        if source:
            m.fsconfig_set(context_fd, "source", source)
        for word in words:
            key, equals, value = word.partition("=")
            m.fsconfig_set(context_fd, key, value if equals else None)
        m.fsconfig_create(context_fd)
        return m.fsmount(context_fd, attr=attr)
    finally:
        os.close(context_fd)
