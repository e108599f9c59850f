"""The daemon inside a program's own process, behind the same client (docs/python-client.md).

The one folder that joins `daemon` and `client`; nothing else of the project imports it.
"""

from __future__ import annotations

from pycontainerd.embedded.daemon import Daemon, in_process

__all__ = ["Daemon", "in_process"]
