"""pyctr: from argv to an exit status.

    root flags -> noun -> its flags -> verb -> its flags and arguments -> the verb's code

A noun's module is imported when it is named, and a verb's code imports the rest when it runs: what a person waits for
is what the command needs.
"""

from __future__ import annotations

import os
import sys
from time import monotonic_ns

from pycontainerd.ctr import tree
from pycontainerd.ctr.command import Call, Command, HelpWanted
from pycontainerd.ctr.flags import UsageError, Values, parse
from pycontainerd.ctr.text import os_text
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import ContainerdError, NotFound

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainerd.ctr.command import Group
    from pycontainerd.ctr.flags import Flag

COMPLETION = "--generate-bash-completion"
BEGAN_NANOS = monotonic_ns()  # this module and what it needs are loaded


class _Finished(Exception):  # not an error: help was shown, and a status is known
    def __init__(self, status: int = 0) -> None:
        super().__init__(status)
        self.status = status


def main(argv: list[str]) -> int:
    """Runs one command line; argv[0] is the program's path. Errors become `ctr: MESSAGE` on stderr and status 1."""
    trace.start(os.environ)
    try:
        return _run(os.path.basename(argv[0]) or "ctr", argv[1:])
    except _Finished as finished:
        return finished.status
    except ContainerdError as error:
        return _report(error, error.hint)
    except BrokenPipeError:
        # The reader of a list left (head, less): nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        return _report(os_text(error), "")
    except KeyboardInterrupt:
        return 130


def _run(program: str, words: list[str]) -> int:
    completing = words[-1:] == [COMPLETION]
    if completing:
        words = words[:-1]
        if words[-2:-1] == ["--"] and len(words) <= 3 and not words[-1].startswith("-"):
            words = words[:-2]  # the noun itself is being typed
    root = Values((*tree.FLAGS, *tree.COMMON_FLAGS), os.environ)
    rest = _parse_or_explain(
        root, words, "Incorrect Usage.", lambda: _root_help(program), completing=completing
    )
    if root.on("version"):
        from pycontainerd.version import __version__

        _print(f"ctr pycontainerd {__version__}")
        return 0
    group = _find(tree.GROUPS, rest[0]) if rest else None
    if completing and (group is None or not rest):
        return _complete([group.names for group in tree.GROUPS])
    if not rest or root.on("help") or rest[0] in {"help", "h"}:
        return _help(program, rest)
    if group is None:
        return _unknown(rest[0], [name for known in tree.GROUPS for name in known.names])
    return _run_group(program, group, root, rest[1:], completing=completing)


def _run_group(program: str, group: Group, root: Values, words: list[str], *, completing: bool) -> int:
    module = load(group)
    title = f"{program} {group.names[0]}"
    command: Command | None = getattr(module, "COMMAND", None)
    if command is not None:
        return _run_command(title, command, root, Values((), {}), words, completing=completing)
    flags: tuple[Flag, ...] = getattr(module, "FLAGS", ())
    return _run_noun(title, group, (module.COMMANDS, flags), root, words, completing=completing)


def _run_noun(
    title: str,
    noun: Group | Command,
    parts: tuple[Sequence[Command], Sequence[Flag]],
    root: Values,
    words: list[str],
    *,
    completing: bool,
    above: Values | None = None,
) -> int:
    """One of a noun's verbs; `parts` are its commands and its own flags, `above` those of the noun it stands below."""
    commands, flags = parts
    values = Values((*flags, *tree.GROUP_HELP), os.environ, above)

    def explain() -> None:
        _group_help(title, noun, *parts)

    rest = _parse_or_explain(values, words, "Incorrect Usage.", explain, completing=completing)
    found: Command | None = _find(commands, rest[0]) if rest else None
    if completing and found is None:
        return _complete([known.names for known in commands])
    if not rest or values.on("help"):
        explain()
        return 0
    if rest[0] in {"help", "h"}:
        wanted = _find(commands, rest[1]) if len(rest) > 1 else None
        if len(rest) > 1 and wanted is None:
            return _unknown(rest[1], [name for known in commands for name in known.names])
        explain() if wanted is None else _command_help(f"{title} {wanted.names[0]}", wanted)
        return 0
    if found is None:
        return _unknown(rest[0], [name for known in commands for name in known.names])
    below = f"{title} {found.names[0]}"
    if found.subcommands:
        inner = (found.subcommands, found.flags)
        return _run_noun(below, found, inner, root, rest[1:], completing=completing, above=values)
    return _run_command(below, found, root, values, rest[1:], completing=completing)


def _run_command(
    title: str, command: Command, root: Values, group: Values, words: list[str], *, completing: bool
) -> int:
    if completing:
        return _complete_arguments(title, command, root, words)
    values = Values((*command.flags, *tree.GROUP_HELP), os.environ)
    arguments = _parse_or_explain(
        values, words, "Incorrect Usage:", lambda: _command_help(title, command), anywhere=command.anywhere
    )
    if values.on("help"):
        _command_help(title, command)
        return 0
    missing = [name for name in command.required if not values.is_set(name)]
    if missing:
        _command_help(title, command)
        quoted = ", ".join(missing)
        plural = "s" if len(missing) > 1 else ""
        raise UsageError(f'Required flag{plural} "{quoted}" not set')
    call = Call(root, group, values, arguments)
    if root.number("timeout"):
        _arm(root.number("timeout"))
    try:
        with trace.span("command", title=title):
            return _run_code(command, call)
    except HelpWanted:
        _command_help(title, command)
        return 0


def _run_code(command: Command, call: Call) -> int:
    try:
        return command.run(call)
    except NotFound:
        if not command.takes_container:
            raise
        from pycontainerd.ctr import short_id

        full_id = short_id.full_id(call)
        if not full_id:
            raise
        call.arguments[0] = full_id
    return command.run(call)


def _arm(timeout_nanos: int) -> None:
    """--timeout: the whole command ends then, whatever it waits for; what it made is cleaned up as after any error."""
    import signal

    from pycontainerd.lib.errdefs import DeadlineExceeded

    def expired(_number: int, _frame: object) -> None:
        raise DeadlineExceeded("context deadline exceeded", hint="--timeout was too short")

    signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, max(timeout_nanos / 1e9, 1e-6))


def _parse_or_explain(
    values: Values,
    words: Sequence[str],
    prefix: str,
    explain: Any,
    *,
    anywhere: bool = False,
    completing: bool = False,
) -> list[str]:
    try:
        return parse(values, words, anywhere=anywhere)
    except UsageError as error:
        if completing:
            raise _Finished from error
        _print(f"{prefix} {error}\n")
        explain()
        raise


def load(group: Group) -> Any:
    """The module of a noun."""
    name = f"pycontainerd.ctr.commands.{group.module}"
    __import__(name)
    return sys.modules[name]


def _find(known: Sequence[Any], name: str) -> Any:
    return next((one for one in known if name in one.names), None)


def _complete(names: Sequence[tuple[str, ...]]) -> int:
    _print("\n".join(name for group in names for name in group))
    return 0


def _complete_arguments(title: str, command: Command, root: Values, words: Sequence[str]) -> int:
    """Flags where one is begun; names that the daemon knows elsewhere. `words` ends with `--` and what is being typed."""
    from pycontainerd.ctr import candidates

    typed = words[-1] if words[-2:-1] == ["--"] else ""
    before = list(words[:-2]) if words[-2:-1] == ["--"] else list(words)
    if typed.startswith("-"):
        found = candidates.flags_of((*command.flags, *tree.GROUP_HELP))
    else:
        try:
            values = Values((*command.flags, *tree.GROUP_HELP), {})
            given = parse(values, before, anywhere=command.anywhere)
        except UsageError:
            return 0  # the value of a flag comes next
        found = candidates.arguments_of(title, command, root, given)
    return _complete([(name,) for name in found])


def _unknown(name: str, known: Sequence[str]) -> int:
    """Unlike ctr 1.6, which exits 3 here: every usage error of ours exits 1."""
    close = [
        word for word in known if len(word) > 2 and (word.startswith(name[:3]) or name.startswith(word[:3]))
    ]
    hint = f"did you mean {' or '.join(close[:3])}?" if close else "see --help for what there is"
    sys.stderr.write(f"No help topic for '{name}'\n")
    if sys.stderr.isatty():
        sys.stderr.write(f"  try: {hint}\n")
    return 1


def _help(program: str, words: Sequence[str]) -> int:
    topic = words[1] if len(words) > 1 and words[0] in {"help", "h"} else words[0] if words else ""
    if not topic or topic in {"help", "h"}:
        _root_help(program)
        return 0
    group = _find(tree.GROUPS, topic)
    if group is None:
        return _unknown(topic, [name for known in tree.GROUPS for name in known.names])
    module = load(group)
    command = getattr(module, "COMMAND", None)
    if command is None:
        _group_help(f"{program} {group.names[0]}", group, module.COMMANDS, getattr(module, "FLAGS", ()))
    else:
        _command_help(f"{program} {group.names[0]}", command)
    return 0


def _root_help(program: str) -> None:
    from pycontainerd.ctr import help_text

    _print(help_text.root(program))


def _group_help(
    title: str, noun: Group | Command, commands: Sequence[Command], flags: Sequence[Flag]
) -> None:
    from pycontainerd.ctr import help_text

    _print(help_text.group(title, noun, commands, flags))


def _command_help(title: str, command: Command) -> None:
    from pycontainerd.ctr import help_text

    if command.subcommands:
        _group_help(title, command, command.subcommands, command.flags)
        return
    _print(help_text.command(title, command))


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _report(error: object, hint: str) -> int:
    """The one error line, as ctr prints it; what to try next goes to people only."""
    sys.stdout.flush()
    sys.stderr.write(f"ctr: {error}\n".encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    if hint and sys.stderr.isatty():
        sys.stderr.write(f"  try: {hint}\n")
    return 1
