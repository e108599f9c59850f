"""pyrunc's entry: global flags, one command, one error line, one exit status.

Exit status: 0; 1 on an error; that of the process for run and exec in the foreground; 255 when exec itself fails.
"""

from __future__ import annotations

import os

from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import ContainerdError
from pycontainerd.lib.log import Logger, format_text
from pycontainerd.runtime.cli.flags import GLOBAL, Command, find
from pycontainerd.runtime.cli.parse import HelpWanted, UsageError, Values, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PROTECTED = frozenset(("create", "run", "exec"))
_VERBS = "pycontainerd.runtime.cli.verbs."


class Context:
    """What every command gets: global flags, the log, and the program's own command line."""

    __slots__ = ("argv", "globals", "log", "log_fd", "root")

    def __init__(self, argv: list[str], values: Values) -> None:
        self.argv = argv
        self.globals = values
        self.root = values.text("root") or default_root()
        self.log_fd = 2
        self.log = Logger(2)

    @property
    def program(self) -> str:
        """The program's name as it was called."""
        return self.argv[0]

    def open_log(self) -> None:
        """Sends the log where the flags say; ContainerdError for a bad format or file."""
        from pycontainerd.lib.errdefs import InvalidArgument

        form = self.globals.text("log-format")
        level = "debug" if self.globals.on("debug") else "info"
        path = self.globals.text("log")
        if path:
            try:
                self.log_fd = os.open(
                    path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_SYNC | os.O_CLOEXEC, 0o644
                )
            except OSError as error:
                raise InvalidArgument(f"open {path}: {(error.strerror or '').lower()}") from error
        if form not in ("text", "json"):
            self.log = Logger(self.log_fd)
            _shorten(self.log)
            raise InvalidArgument(f"invalid log-format: {form}")
        self.log = Logger(self.log_fd, level, form)
        _shorten(self.log)

    def fail(self, text: str) -> None:
        """The one error line; with a log file, the bare text on stderr too."""
        self.log.error(text)
        if self.log_fd != 2:
            os.write(2, text.encode("utf-8", "replace") + b"\n")


def _shorten(log: Logger) -> None:
    """runc's text lines have no fraction of a second."""
    if log.format is format_text:
        log.format = _format_seconds


def _format_seconds(level: str, message: str, fields: Mapping[str, object]) -> str:
    head, _, rest = format_text(level, message, fields).partition(" ")
    second, _, fraction = head.partition(".")
    return f"{second}{fraction.lstrip('0123456789')} {rest}" if fraction else f"{head} {rest}"


def default_root() -> str:
    """runc's own, so that each sees the other's containers."""
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime_dir and os.geteuid() != 0:
        return f"{runtime_dir}/runc"
    return "/run/runc"


def write_out(text: str) -> None:
    """Text to stdout, whole."""
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[os.write(1, data) :]


def _name(argv: list[str]) -> str:
    return argv[0].rsplit("/", 1)[-1]


def main(argv: list[str]) -> int:
    """Runs one command line; argv[0] is the launcher."""
    trace.start(os.environ)
    try:
        values = parse(GLOBAL, argv[1:], version=True)
    except HelpWanted:
        return _app_help(argv)
    except UsageError as error:
        write_out(f"Incorrect Usage. {error}\n\n")
        _app_help(argv)
        Logger(2).error(str(error))
        return 1
    if "version" in values.given:
        from pycontainerd.runtime.cli.version import version_text

        write_out(f"{_name(argv)} version {version_text()}\n")
        return 0
    context = Context(argv, values)
    try:
        context.open_log()
    except ContainerdError as error:
        context.fail(str(error))
        return 1
    if not values.args:
        return _app_help(argv)
    return _run_command(context, values.args[0], values.args[1:])


def _app_help(argv: list[str]) -> int:
    from pycontainerd.runtime.cli.help import app_help

    write_out(app_help(_name(argv), default_root()))
    return 0


def _run_command(context: Context, name: str, rest: list[str]) -> int:
    command = find(name)
    if command is None:
        context.fail(f"No help topic for '{name}'\n")
        return 3  # as urfave/cli
    if command.name == "help":
        return _help(context, rest)
    try:
        values = parse(command.flags, rest)
    except HelpWanted:
        return _command_help(context, command)
    except UsageError as error:
        write_out(f"Incorrect Usage: {error}\n\n")
        _command_help(context, command)
        context.fail(str(error))
        return 1
    wrong = _wrong_count(context, command, values)
    if wrong:
        write_out("Incorrect Usage.\n\n")
        _command_help(context, command)
        context.fail(wrong)
        return 1
    if command.name in PROTECTED:
        from pycontainerd.lib.linux.interpreter import require_protected

        require_protected(context.argv)
    return _call(context, command, values)


def _call(context: Context, command: Command, values: Values) -> int:
    module: Any = __import__(_VERBS + command.name, fromlist=("run",))
    try:
        try:
            with trace.span(f"pyrunc {command.name}"):
                code: int = module.run(context, values)
        finally:
            if context.globals.on("debug"):
                _log_steps(context)
        return code
    except ContainerdError as error:
        context.fail(getattr(module, "PREFIX", "") + str(error))
    except OSError as error:
        name = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        text = (error.strerror or str(error)).lower()
        context.fail(f"{getattr(module, 'PREFIX', '')}{name}{text}")
    return int(getattr(module, "FAILURE", 1))


def _log_steps(context: Context) -> None:
    """--debug: every step of the command and how long it took, before an error's line."""
    for step in trace.finished():
        context.log.debug(step.name, microseconds=step.duration_nanos // 1000)


def _wrong_count(context: Context, command: Command, values: Values) -> str:
    rule, count = command.args
    found = len(values.args)
    if rule == "exactly" and found != count:
        return f'{context.program}: "{command.name}" requires exactly {count} argument(s)'
    if rule == "min" and found < count:
        return f'{context.program}: "{command.name}" requires a minimum of {count} argument(s)'
    return ""


def _help(context: Context, rest: list[str]) -> int:
    if not rest:
        return _app_help(context.argv)
    command = find(rest[0])
    if command is None:
        context.fail(f"No help topic for '{rest[0]}'")
        return 3
    return _command_help(context, command)


def _command_help(context: Context, command: Command) -> int:
    from pycontainerd.runtime.cli.help import command_help

    write_out(command_help(_name(context.argv), command))
    return 0
