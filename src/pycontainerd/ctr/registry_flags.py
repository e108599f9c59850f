"""The flags that say how a registry is reached, shared by every command that reaches one."""

from __future__ import annotations

from pycontainerd.ctr.flags import BOOL, STRING, STRINGS, Flag
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from pycontainerd.ctr.command import Call
    from pycontainerd.ctr.flags import Values
    from pycontainerd.lib import platforms
    from pycontainerd.lib.registry.hosts import Options

REGISTRY_FLAGS = (
    Flag("skip-verify, k", BOOL, "don't check the registry's certificate"),
    Flag("plain-http", BOOL, "speak http instead of https"),
    Flag("user, u", STRING, "name[:password] for the registry"),
    Flag("refresh", STRING, "refresh token for the token server"),
    Flag("hosts-dir", STRING, "folder of hosts.toml files"),
    Flag("tlscacert", STRING, "file of trusted CA certificates"),
    Flag("tlscert", STRING, "file of the client's certificate"),
    Flag("tlskey", STRING, "file of the client's key"),
    Flag("http-dump", BOOL, "print the heads of all requests and answers, without credentials"),
    Flag("http-trace", BOOL, "print which connections requests go over"),
)
PLATFORM_FLAGS = (
    Flag("platform", STRINGS, "platform to take (os/architecture[/variant])"),
    Flag("all-platforms", BOOL, "take every platform"),
)
# Hidden, as in ctr: what it asks for costs little, and `content fetch --metadata-only` is the command for it.
ALL_METADATA_FLAG = Flag(
    "all-metadata", BOOL, "fetch the manifests and configs of every platform too", hidden=True
)
SKIP_METADATA_FLAG = Flag(
    "skip-metadata",
    BOOL,
    "leave the manifests and configs of other platforms where they are (on by default; =false fetches them)",
    default=True,
)
LOCAL_FLAG = Flag(
    "local",
    BOOL,
    "let this program do it (on by default; =false lets the daemon, by containerd 2's transfer service)",
    default=True,
)


def wants_all_metadata(flags: Values) -> bool:
    """Whether the documents of platforms that aren't asked for are wanted, too."""
    return flags.on("all-metadata") or not flags.on("skip-metadata")


def registry_options(call: Call) -> Options:
    """The registry flags; a --user without a password asks for it on the terminal."""
    from pycontainerd.lib.registry.hosts import Options

    flags = call.flags
    username, colon, secret = flags.text("user").partition(":")
    if username and not colon and not flags.text("refresh"):
        import getpass

        try:
            secret = getpass.getpass("Password: ")
        except EOFError as error:
            raise InvalidArgument("no password given", hint="--user NAME:PASSWORD") from error
    client_cert = (flags.text("tlscert"), flags.text("tlskey") or flags.text("tlscert"))
    watch = None
    if flags.on("http-dump") or flags.on("http-trace"):
        from pycontainerd.ctr.http_watch import PrintedWatch

        watch = PrintedWatch(dump=flags.on("http-dump"), trace=flags.on("http-trace"))
    return Options(
        plain_http=flags.on("plain-http"),
        skip_verify=flags.on("skip-verify"),
        hosts_dir=flags.text("hosts-dir"),
        ca_file=flags.text("tlscacert"),
        client_cert=client_cert if client_cert[0] else None,
        username=username,
        secret=secret,
        refresh=flags.text("refresh"),
        watch=watch,
    )


def platforms_of(flags: Any) -> list[platforms.Platform]:
    """The --platform flags."""
    from pycontainerd.lib import platforms

    given = flags.texts("platform") if flags.flag("all-platforms") else ()
    found: list[platforms.Platform] = []
    for one in given:
        try:
            found.append(platforms.parse(one))
        except InvalidArgument as error:
            raise InvalidArgument(f"invalid platform {one}: {error}", hint=error.hint) from error
    return found


def matcher_of(flags: Values) -> platforms.Matcher:
    """Any of the --platform flags, every platform with --all-platforms, this machine's otherwise."""
    from pycontainerd.lib import platforms

    if flags.on("all-platforms"):
        return platforms.everything()
    wanted = platforms_of(flags)
    return platforms.any_of(wanted) if wanted else platforms.default_matcher()
