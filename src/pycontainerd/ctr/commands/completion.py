"""`pyctr completion`: scripts that make a shell ask pyctr itself for what can come next."""

from __future__ import annotations

from pycontainerd.ctr import display
from pycontainerd.ctr.command import Command
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from typing import Final

    from pycontainerd.ctr.command import Call

# The words so far and the one being typed, then the hook: pyctr prints what may stand there, one a line.
_BASH: Final = """\
_pyctr() {
    local current=${COMP_WORDS[COMP_CWORD]}
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$("${COMP_WORDS[@]:0:COMP_CWORD}" -- "$current" --generate-bash-completion 2>/dev/null)" -- "$current"))
    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$current"
}
complete -o default -F _pyctr pyctr
"""
_ZSH: Final = """\
#compdef pyctr
_pyctr() {
    local -a found
    found=(${(f)"$(${words[1,CURRENT-1]} -- "${words[CURRENT]}" --generate-bash-completion 2>/dev/null)"})
    if (( ${#found} )); then
        compadd -a found
    else
        _files
    fi
}
compdef _pyctr pyctr
"""
_FISH: Final = """\
function __pyctr_next
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    command $before -- "$current" --generate-bash-completion 2>/dev/null
end
complete -c pyctr -a '(__pyctr_next)'
"""
_SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def _completion(call: Call) -> int:
    shell = call.argument(0)
    if shell not in _SCRIPTS:
        raise InvalidArgument(f"a shell has to be given: {', '.join(_SCRIPTS)}")
    display.write(_SCRIPTS[shell])
    return 0


COMMAND = Command(
    "completion",
    "print a script that completes command lines",
    _completion,
    arguments="bash|zsh|fish",
    description='put `eval "$(pyctr completion bash)"` into ~/.bashrc',
)
