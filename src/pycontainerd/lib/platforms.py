"""Platforms: parsing `os/arch/variant`, this machine's own, and which of an index's manifests runs here best.

Spec: image-spec image-index.md (platform), containerd platforms package
"""

from __future__ import annotations

import os

from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Final

_ARCHITECTURES: Final = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "arm64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_MACHINES: Final = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "ppc64le": ("ppc64le", ""),
    "ppc64": ("ppc64", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
    "mips64": ("mips64", ""),
}
_KNOWN_OS: Final = frozenset(
    [
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "hurd",
        "illumos",
        "ios",
        "js",
        "linux",
        "nacl",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "windows",
        "zos",
    ]
)
_KNOWN_ARCH: Final = frozenset(
    [
        "386",
        "amd64",
        "amd64p32",
        "arm",
        "armbe",
        "arm64",
        "arm64be",
        "ppc64",
        "ppc64le",
        "loong64",
        "mips",
        "mipsle",
        "mips64",
        "mips64le",
        "mips64p32",
        "mips64p32le",
        "ppc",
        "riscv",
        "riscv64",
        "s390",
        "s390x",
        "sparc",
        "sparc64",
        "wasm",
    ]
)
_PART: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


class Platform:
    """What a manifest runs on; a value."""

    __slots__ = ("architecture", "os", "os_features", "os_version", "variant")

    def __init__(
        self,
        os: str,
        architecture: str,
        variant: str = "",
        os_version: str = "",
        os_features: tuple[str, ...] = (),
    ) -> None:
        self.os = os
        self.architecture = architecture
        self.variant = variant
        self.os_version = os_version
        self.os_features = os_features

    def __str__(self) -> str:
        if not self.os:
            return "unknown"
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def __repr__(self) -> str:
        return f"Platform({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Platform) and (self.os, self.architecture, self.variant) == (
            other.os,
            other.architecture,
            other.variant,
        )

    def __hash__(self) -> int:
        return hash((self.os, self.architecture, self.variant))


class Matcher:
    """Ranks platforms: `rank` gives 0 for the best, None for one that doesn't match at all."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: Iterable[Platform] | None) -> None:
        # None: everything matches, in the order of the index.
        self._wanted = None if wanted is None else [normalize(platform) for platform in wanted]

    @property
    def is_open(self) -> bool:
        """Whether everything matches."""
        return self._wanted is None

    def rank(self, platform: Platform) -> int | None:
        """The place of the first wanted platform that equals this one."""
        if self._wanted is None:
            return 0
        candidate = normalize(platform)
        for place, wanted in enumerate(self._wanted):
            if wanted == candidate:
                return place
        return None

    def matches(self, platform: Platform) -> bool:
        """Whether the platform matches at all."""
        return self.rank(platform) is not None


def normalize(platform: Platform) -> Platform:
    """Aliases resolved (x86_64 -> amd64, arm -> arm/v7 ...), all lower case."""
    architecture, variant = normalize_architecture(platform.architecture, platform.variant)
    name = platform.os.lower()
    return Platform("darwin" if name == "macos" else name, architecture, variant, platform.os_version)


def normalize_architecture(architecture: str, variant: str = "") -> tuple[str, str]:
    """(architecture, variant) in Go's words; the default variants of amd64 (v1) and arm64 (v8) are left out."""
    architecture, variant = architecture.lower(), variant.lower()
    if architecture in _ARCHITECTURES:
        architecture, default = _ARCHITECTURES[architecture]
        variant = variant or default
    if (architecture, variant) in {("amd64", "v1"), ("arm64", "8"), ("arm64", "v8"), ("386", "v1")}:
        variant = ""
    if architecture == "arm":
        variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    return architecture, variant


def parse(text: str) -> Platform:
    """`os/arch[/variant]`, a lone os or a lone architecture (completed from this machine); InvalidArgument otherwise."""
    if "*" in text:
        raise InvalidArgument(f'"{text}": wildcards not yet supported: invalid argument')
    parts = text.split("/")
    for part in parts:
        if not part or not _PART.issuperset(part):
            raise InvalidArgument(
                f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                f'"^[A-Za-z0-9_-]+$": invalid argument'
            )
    if len(parts) == 1:
        return _parse_single(text)
    if len(parts) > 3:
        raise InvalidArgument(f'"{text}": cannot parse platform specifier: invalid argument')
    return normalize(Platform(parts[0], parts[1], parts[2] if len(parts) == 3 else ""))


def _parse_single(text: str) -> Platform:
    here = default()
    lower = text.lower()
    if lower == "macos" or lower in _KNOWN_OS:
        return normalize(Platform(lower, here.architecture, here.variant))
    architecture, variant = normalize_architecture(text)
    if architecture in _KNOWN_ARCH:
        return Platform(here.os, architecture, variant)
    raise InvalidArgument(
        f'"{text}": unknown operating system or architecture: invalid argument',
        hint="write os/architecture[/variant], for example linux/arm64",
    )


def default() -> Platform:
    """The platform of this machine."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def only(platform: Platform) -> Matcher:
    """The platform itself, then the ones its processor also runs, best first (containerd's `platforms.Only`)."""
    return Matcher(_vector(normalize(platform)))


def ordered(platforms: Iterable[Platform]) -> Matcher:
    """Exactly these, in this order."""
    return Matcher(platforms)


def any_of(platforms: Iterable[Platform]) -> Matcher:
    """Everything that one of these runs; each platform's own compatible ones included."""
    return Matcher([compatible for platform in platforms for compatible in _vector(normalize(platform))])


def everything() -> Matcher:
    """Matches every platform."""
    return Matcher(None)


def default_matcher() -> Matcher:
    """What runs on this machine."""
    return only(default())


def best(candidates: Iterable[Platform | None], matcher: Matcher) -> list[int]:
    """Indexes of the candidates that match, best first; one without a platform ranks last."""
    ranked: list[tuple[int, int]] = []
    for place, platform in enumerate(candidates):
        rank = 1 << 30 if platform is None else matcher.rank(platform)
        if rank is not None:
            ranked.append((rank, place))
    return [place for _, place in sorted(ranked)]


def _vector(platform: Platform) -> list[Platform]:
    """The platform and what else its processor runs, best first."""
    name, architecture, variant = platform.os, platform.architecture, platform.variant
    same: Callable[[str, str], Platform] = lambda arch, var: Platform(name, arch, var)  # noqa: E731
    if architecture == "amd64":
        level = _number(variant)
        below = [same("amd64", f"v{n}") for n in range(level - 1, 0, -1)] if level > 1 else []
        return [platform, *below, same("386", "")]
    if architecture == "arm":
        level = _number(variant)
        return [platform, *(same("arm", f"v{n}") for n in range(level - 1, 4, -1))]
    if architecture == "arm64":
        return [platform, *(same("arm", f"v{n}") for n in range(8, 4, -1))]
    return [platform]


def _number(variant: str) -> int:
    return int(variant[1:]) if variant[:1] == "v" and variant[1:] in set("123456789") else 0
