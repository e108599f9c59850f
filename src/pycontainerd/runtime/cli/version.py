"""What `--version` prints."""

from __future__ import annotations

from pycontainerd.lib.oci.runtime import VERSION as SPEC_VERSION
from pycontainerd.version import __version__


def version_text() -> str:
    """Version, spec and libseccomp, a line each, as runc's tools expect them."""
    from pycontainerd.lib.linux.seccomp import library_version

    text = f"{__version__}\nspec: {SPEC_VERSION}"
    found = library_version()
    return f"{text}\nlibseccomp: {found}" if found else text
