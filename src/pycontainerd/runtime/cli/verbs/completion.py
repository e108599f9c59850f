"""pyrunc completion: a script for a shell, made from the table."""

from __future__ import annotations

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.runtime.cli.flags import COMMANDS, GLOBAL
from pycontainerd.runtime.cli.main import write_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainerd.runtime.cli.main import Context
    from pycontainerd.runtime.cli.parse import Values


def run(context: Context, values: Values) -> int:
    """Prints the script."""
    makers = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    if values.args[0] not in makers:
        raise InvalidArgument(f"completion: no script for {values.args[0]}; there are bash, zsh and fish")
    write_out(makers[values.args[0]]())
    return 0


def _words() -> dict[str, list[str]]:
    return {
        command.name: [f"--{flag.name}" for flag in command.flags if not flag.hidden] for command in COMMANDS
    }


def _bash() -> str:
    cases = "".join(
        f'    {name}) words="{" ".join(flags)}" ;;\n' for name, flags in _words().items() if flags
    )
    top = " ".join([*_words(), *(f"--{flag.name}" for flag in GLOBAL)])
    return (
        "_pyrunc() {\n"
        '  local cur="${COMP_WORDS[COMP_CWORD]}" command="" word words\n'
        '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do case $word in -*) ;; *) command=$word; break ;; esac; done\n'
        f'  words="{top}"\n  case $command in\n    "") ;;\n{cases}    *) words="" ;;\n  esac\n'
        '  COMPREPLY=($(compgen -W "$words" -- "$cur"))\n}\ncomplete -F _pyrunc pyrunc\n'
    )


def _zsh() -> str:
    return "#compdef pyrunc\nautoload -U +X bashcompinit && bashcompinit\n" + _bash()


def _fish() -> str:
    lines = [
        f"complete -c pyrunc -n __fish_use_subcommand -a {command.name} -d '{command.usage.replace(chr(39), '')}'"
        for command in COMMANDS
    ]
    lines += [
        f"complete -c pyrunc -n '__fish_seen_subcommand_from {command.name}' -l {flag.name}"
        for command in COMMANDS
        for flag in command.flags
        if not flag.hidden
    ]
    return "\n".join(lines) + "\n"
