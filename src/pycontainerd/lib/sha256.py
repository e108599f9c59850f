"""SHA-256 of something small by the interpreter's own code: hashlib would load OpenSSL, 3 ms for one digest."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 12):
    from _sha2 import sha256
else:  # asked for by name: a module that isn't there is looked for in every folder, each time
    from _sha256 import sha256


def hexdigest(data: bytes) -> str:
    """64 digits."""
    found: str = sha256(data).hexdigest()
    return found
