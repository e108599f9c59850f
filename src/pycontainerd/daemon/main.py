"""pycontainerd: the daemon's command line.

Spec: containerd(8), containerd-config(8)
"""

from __future__ import annotations

import os
import sys
from typing import Final

from pycontainerd.daemon.flags import Flag, parse
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument
from pycontainerd.version import PACKAGE, REVISION, VERSION

_FLAGS: Final = (
    Flag(("config", "c"), "path of the configuration file (default: /etc/pycontainerd/config.toml)"),
    Flag(("log-level", "l"), "one of trace, debug, info, warn, error"),
    Flag(
        ("address", "a"),
        "socket for gRPC; ttrpc is served next to it (default: /run/pycontainerd/pycontainerd.sock)",
    ),
    Flag(("root",), "folder for what must survive a reboot (default: /var/lib/pycontainerd)"),
    Flag(("state",), "folder for what may go with a reboot (default: /run/pycontainerd)"),
    Flag(("idle-exit",), "leave after SECONDS without task, lease, open call or pending collection"),
    Flag(("version", "v"), "print the version", takes_value=False),
    Flag(("help", "h"), "show this help", takes_value=False),
)
_PUBLISH_FLAGS: Final = (
    Flag(("namespace",), "namespace of the event"),
    Flag(("topic",), "topic of the event, such as /tasks/exit"),
    Flag(("help", "h"), "show this help", takes_value=False),
)
_CHECK_FLAGS: Final = (
    Flag(("repair",), "mend what can be mended without losing an image or a container", takes_value=False),
    Flag(("verify",), "read every blob and compare its digest", takes_value=False),
    Flag(("help", "h"), "show this help", takes_value=False),
)
_COMMANDS: Final = (
    ("config default", "print the default configuration"),
    ("config dump", "print the configuration that the flags and files given make"),
    ("config migrate", "print the configuration file, without its imports, as version 3"),
    ("db check", "compare the metadata with the disk while no daemon runs; --repair, --verify (digests)"),
    ("oci-hook", "run a program as an OCI hook, with {{id}}, {{bundle}}, … of the state filled in"),
    ("publish", "read an event from stdin and hand it to the running daemon"),
)


def main(argv: list[str]) -> int:
    """Runs the program; argv[0] is the name it was called by. The exit code."""
    trace.start(os.environ)
    try:
        return _run(argv[1:])
    except ContainerdError as e:
        print(f"pycontainerd: {e}", file=sys.stderr)
        if e.hint:
            print(f"  try: {e.hint}", file=sys.stderr)
        return 1


def _run(argv: list[str]) -> int:
    values, rest = parse(argv, _FLAGS)
    if "help" in values or rest[:1] == ["help"]:
        print(_help())
        return 0
    if "version" in values:
        print(f"pycontainerd {PACKAGE} {VERSION} {REVISION}".rstrip())
        return 0
    match rest:
        case []:
            return _serve(values)
        case ["publish", *arguments]:
            return _publish(values, arguments)
        case ["oci-hook", *arguments]:
            from pycontainerd.daemon import ocihook

            return ocihook.run(arguments)
        case ["db", "check", *arguments]:
            return _check_database(values, arguments)
        case ["config", "default"]:
            from pycontainerd.daemon import config

            print(config.dump(config.Config(imports=[config.DROP_INS])))
            return 0
        case ["config", "dump"]:
            from pycontainerd.daemon import config

            print(config.dump(_load_config(values)))
            return 0
        case ["config", "migrate"]:
            from pycontainerd.daemon import config, config_file

            document = config_file.read(values.get("config", config.DEFAULT_CONFIG), imports=False)
            config.apply(config.Config(), document)  # what the daemon would refuse isn't written
            print(config_file.format_toml(document))
            return 0
        case _:
            raise InvalidArgument(
                f"no such command: {' '.join(rest)}", hint="pycontainerd --help lists flags and commands"
            )


def _serve(values: dict[str, str]) -> int:
    if sys.platform != "linux":
        raise InvalidArgument("pycontainerd runs on Linux only")
    idle_exit = values.get("idle-exit", "0")
    if not (idle_exit.isascii() and idle_exit.isdecimal()):
        raise InvalidArgument(f'invalid value "{idle_exit}" for flag -idle-exit: whole seconds')
    from pycontainerd.daemon import lifecycle
    from pycontainerd.lib import launcher

    program = launcher.self_path() or launcher.path("pycontainerd")
    return lifecycle.run(program, _load_config(values), idle_exit_s=int(idle_exit))


def _load_config(values: dict[str, str]):  # type: ignore[no-untyped-def]  # noqa: ANN202 -- its type costs an import
    from pycontainerd.daemon import config

    loaded = config.load(values.get("config", config.DEFAULT_CONFIG), required="config" in values)
    loaded.root = values.get("root", loaded.root)
    loaded.state = values.get("state", loaded.state)
    loaded.grpc.address = values.get("address", loaded.grpc.address)
    loaded.debug.level = values.get("log-level", loaded.debug.level)
    for name in ("root", "state"):
        if not os.path.isabs(getattr(loaded, name)):
            raise InvalidArgument(f"{name} must be an absolute path: {getattr(loaded, name)!r}")
    from pycontainerd.lib.log import LEVELS

    if loaded.debug.level not in LEVELS:
        raise InvalidArgument(f'not a valid logrus Level: "{loaded.debug.level}"')
    return loaded


def _publish(values: dict[str, str], arguments: list[str]) -> int:
    flags, rest = parse(arguments, _PUBLISH_FLAGS)
    if "help" in flags:
        lines = [f"  --{flag.names[0]}  {flag.help}" for flag in _PUBLISH_FLAGS]
        print("usage: pycontainerd --address A publish --topic T --namespace N < event", *lines, sep="\n")
        return 0
    if rest:
        raise InvalidArgument(f"publish takes no arguments: {' '.join(rest)}")
    if not flags.get("topic"):
        raise InvalidArgument("topic required to publish event")
    from pycontainerd.daemon.publish import publish

    publish(
        values.get("address", "/run/pycontainerd/pycontainerd.sock"),
        flags["topic"],
        flags.get("namespace", ""),
    )
    return 0


def _check_database(values: dict[str, str], arguments: list[str]) -> int:
    flags, rest = parse(arguments, _CHECK_FLAGS)
    if "help" in flags:
        lines = [f"  --{flag.names[0]}  {flag.help}" for flag in _CHECK_FLAGS]
        print("usage: pycontainerd [--config C] [--root R] db check [flags]", *lines, sep="\n")
        return 0
    if rest:
        raise InvalidArgument(f"db check takes no arguments: {' '.join(rest)}")
    from pycontainerd.daemon import dbcheck

    return dbcheck.run(_load_config(values), repair="repair" in flags, verify="verify" in flags)


def _help() -> str:
    flags = [f"  {', '.join('-' * min(len(n), 2) + n for n in f.names):<18} {f.help}" for f in _FLAGS]
    commands = [f"  {name:<18} {text}" for name, text in _COMMANDS]
    return "\n".join(
        [
            "pycontainerd: keeps images, snapshots and containers, and starts a shim per container",
            "",
            "usage: pycontainerd [flags] [command]",
            "",
            "flags:",
            *flags,
            "",
            "commands:",
            *commands,
            "",
            "examples:",
            "  pycontainerd --log-level debug                     serve on the default socket",
            "  pycontainerd --root /tmp/r --state /tmp/s -a /tmp/c.sock",
            "  ctr -a /run/pycontainerd/pycontainerd.sock images ls",
        ]
    )
