"""Names of containers, execs, namespaces, leases and snapshotters: one strict check for all of them.

Identifiers become path components and socket names, so nothing that a path could misread ever passes.

Spec: containerd identifiers (alphanumerics joined by single `.`, `_` or `-`; at most 76 bytes)
"""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

MAX_LENGTH: Final = 76
PATTERN: Final = "^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$"

# Spelled out: str.isalnum() takes every script's letters and digits.
_ALPHANUMERIC: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_SEPARATORS: Final = frozenset("._-")


def is_valid(identifier: str) -> bool:
    """Whether `identifier` could be a name; says nothing about whether it is in use."""
    if not identifier or len(identifier) > MAX_LENGTH:
        return False
    after_separator = True
    for character in identifier:
        if character in _SEPARATORS:
            if after_separator:
                return False
            after_separator = True
        elif character in _ALPHANUMERIC:
            after_separator = False
        else:
            return False
    return not after_separator


def require_valid(identifier: str) -> None:
    """Raises InvalidArgument, with containerd's text, for anything that isn't an identifier."""
    if not identifier:
        raise InvalidArgument("identifier must not be empty: invalid argument")
    if len(identifier) > MAX_LENGTH:
        raise InvalidArgument(
            f"identifier {quoted(identifier)} greater than maximum length ({MAX_LENGTH} characters): invalid argument"
        )
    if not is_valid(identifier):
        raise InvalidArgument(
            f"identifier {quoted(identifier)} must match {PATTERN}: invalid argument",
            hint="use letters, digits and single . _ - between them",
        )


def quoted(text: str) -> str:
    """A string as Go's %q prints it, so that messages equal containerd's."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    out = ['"']
    for character in text:
        code = ord(character)
        if character in '"\\':
            out.append("\\" + character)
        elif character in _SHORT_ESCAPES:
            out.append(_SHORT_ESCAPES[character])
        elif 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte that isn't UTF-8
            out.append(f"\\x{code - 0xDC00:02x}")
        elif code < 0x20 or code == 0x7F:
            out.append(f"\\x{code:02x}")
        elif character.isprintable():
            out.append(character)
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    out.append('"')
    return "".join(out)


_SHORT_ESCAPES: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
