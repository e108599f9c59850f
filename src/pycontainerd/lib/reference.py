"""Image references: docker's grammar, docker.io's short names, and containerd's (locator, object) pair.

    reference   name [ ":" tag ] [ "@" digest ]
    name        [ domain "/" ] component *( "/" component )
    domain      host [ ":" port ]; host is dotted labels, or "[" ipv6 "]"
    component   [a-z0-9]+ joined by ".", "_", "__" or dashes
    tag         [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}

Parsed by hand: `re` costs 6 ms to import, and every command that names an image comes through here.

Spec: distribution/reference grammar, containerd reference package
"""

from __future__ import annotations

from pycontainerd.lib import digest as digests
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

DEFAULT_DOMAIN: Final = "docker.io"
LEGACY_DOMAIN: Final = "index.docker.io"
OFFICIAL_PREFIX: Final = "library/"
DEFAULT_TAG: Final = "latest"
MAX_NAME_LENGTH: Final = 255

_LOWER: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM: Final = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TAG: Final = _ALNUM | frozenset("_.-")
_DIGITS: Final = frozenset("0123456789")
_IPV6: Final = frozenset("0123456789abcdefABCDEF:")
_FULL_NAME: Final = "write the whole name: docker.io/library/NAME:TAG"


class Reference:
    """A parsed docker reference. `domain` is empty when the text names none (only from `parse`)."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str = "", digest: digests.Digest | None = None) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def name(self) -> str:
        """Domain and path, without tag and digest."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}@{self.digest}" if self.digest else f"{self.name}{tag}"

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class Spec:
    """containerd's own view of a reference: `locator` (host/path) and `object` (what follows : or @)."""

    __slots__ = ("locator", "object")

    def __init__(self, locator: str, object: str) -> None:  # noqa: A002 - containerd's word
        self.locator = locator
        self.object = object

    @property
    def hostname(self) -> str:
        """The registry's host, with its port."""
        return self.locator.partition("/")[0]

    @property
    def path(self) -> str:
        """The repository on that host."""
        return self.locator.partition("/")[2]

    @property
    def digest(self) -> str:
        """The digest part of the object, unchecked; empty when there is none."""
        return self.object.partition("@")[2]

    @property
    def tag(self) -> str:
        """The tag part of the object; empty when there is none."""
        return self.object.partition("@")[0]

    def __str__(self) -> str:
        if not self.object:
            return self.locator
        if self.object.startswith("@"):
            return f"{self.locator}{self.object}"
        return f"{self.locator}:{self.object}"


def parse_spec(ref: str) -> Spec:
    """Splits a full reference as containerd does: no default domain, no default tag. InvalidArgument otherwise."""
    if " " in ref.partition("/")[0] and ref.isprintable():
        raise InvalidArgument(f'parse "dummy://{ref}": invalid character " " in host name', hint=_FULL_NAME)
    if any(ord(c) <= 0x20 or ord(c) == 0x7F for c in ref):
        raise InvalidArgument(
            "invalid reference", hint="a reference holds no white space or control characters"
        )
    if "://" in ref:
        raise InvalidArgument("invalid reference", hint="leave out the scheme: HOST/PATH:TAG")
    host, slash, path = ref.partition("/")
    if not host:
        raise InvalidArgument("hostname required", hint=_FULL_NAME)
    if not is_domain(host):
        port = host.rpartition(":")[2]
        reason = f'invalid port ":{port}" after host' if ":" in host else "invalid character in host name"
        raise InvalidArgument(f'parse "dummy://{ref}": {reason}', hint=_FULL_NAME)
    if not slash:
        return Spec(host, "")
    cut = min((at for at in (path.find(":"), path.find("@")) if at >= 0), default=len(path))
    return Spec(f"{host}/{path[:cut]}", path[cut + 1 :] if path[cut : cut + 1] == ":" else path[cut:])


def require_object(spec: Spec) -> Spec:
    """The spec again; InvalidArgument `object required` when it names neither tag nor digest."""
    if not spec.object:
        raise InvalidArgument("object required", hint=_FULL_NAME)
    return spec


def parse(text: str) -> Reference:
    """Parses docker's grammar without completing anything; InvalidArgument with docker's text otherwise."""
    if not text:
        raise InvalidArgument("repository name must have at least one component")
    rest, at, digest_text = text.partition("@")
    digest = digests.parse(digest_text) if at else None
    name, tag = _split_tag(rest)
    if tag is not None and not is_tag(tag):
        raise _invalid(text)
    domain, path = _split_domain(name)
    if not is_path(path) or (domain and not is_domain(domain)):
        if path != path.lower() and is_path(path.lower()):
            raise InvalidArgument(f"repository name must be lowercase: {text}")
        raise _invalid(text)
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidArgument(f"repository name must not be more than {MAX_NAME_LENGTH} characters")
    return Reference(domain, path, tag or "", digest)


def normalize(text: str) -> Reference:
    """What docker understands by a short name: docker.io/ and library/ are added, the tag is not.

    `busybox` -> docker.io/library/busybox; `localhost/x`, `a.b/x` and `host:5000/x` keep their host.
    """
    if len(text) == 64 and set(text) <= frozenset("0123456789abcdef"):
        raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    first, slash, rest = text.partition("/")
    if not slash or not _looks_like_domain(first):
        domain, remainder = DEFAULT_DOMAIN, text
    else:
        domain, remainder = first, rest
    if domain == LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = OFFICIAL_PREFIX + remainder
    return parse(f"{domain}/{remainder}")


def normalize_tagged(text: str) -> Reference:
    """`normalize`, and `latest` where neither tag nor digest is given; a tag beside a digest is dropped, as containerd does."""
    ref = normalize(text)
    if ref.digest is not None:
        return Reference(ref.domain, ref.path, "", ref.digest)
    return Reference(ref.domain, ref.path, ref.tag or DEFAULT_TAG)


def is_tag(text: str) -> bool:
    """[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}."""
    return 0 < len(text) <= 128 and text[0] not in ".-" and _TAG.issuperset(text)


def is_path(text: str) -> bool:
    """One or more components joined by slashes."""
    return bool(text) and all(_is_component(part) for part in text.split("/"))


def is_domain(text: str) -> bool:
    """host[:port], where host is dotted labels or a bracketed IPv6 address."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or not host or not _IPV6.issuperset(host):
            return False
        return not port or (port[0] == ":" and _is_port(port[1:]))
    host, colon, port = text.partition(":")
    if colon and not _is_port(port):
        return False
    return all(_is_host_label(label) for label in host.split("."))


def _is_port(text: str) -> bool:
    return bool(text) and _DIGITS.issuperset(text)


def _is_host_label(text: str) -> bool:
    return bool(text) and text[0] in _ALNUM and text[-1] in _ALNUM and (_ALNUM | {"-"}).issuperset(text)


def _is_component(text: str) -> bool:
    """Runs of [a-z0-9]+ joined by one dot, one or two underscores, or any number of dashes."""
    run = ""
    previous_alphanumeric = False
    for character in text:
        if character in _LOWER:
            if run and not _is_separator(run):
                return False
            run = ""
            previous_alphanumeric = True
        elif previous_alphanumeric or run:
            run += character
            previous_alphanumeric = False
        else:
            return False
    return bool(text) and not run


def _is_separator(run: str) -> bool:
    return run in {".", "_", "__"} or not run.strip("-")


def _split_tag(text: str) -> tuple[str, str | None]:
    """(name, tag); a colon before the last slash belongs to a port."""
    at = text.rfind(":")
    if at < 0 or "/" in text[at:]:
        return text, None
    return text[:at], text[at + 1 :]


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and is_domain(first) and (_looks_like_domain(first) or not _is_component(first)):
        return first, rest
    return "", name


def _looks_like_domain(text: str) -> bool:
    return "." in text or ":" in text or text == "localhost" or text != text.lower()


def _invalid(text: str) -> InvalidArgument:
    return InvalidArgument(
        f"invalid reference format: {text}" if len(text) < 300 else "invalid reference format",
        hint="write HOST/PATH:TAG, for example docker.io/library/busybox:latest",
    )
