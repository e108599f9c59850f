"""The same command lines by Debian's ctr and by pyctr on one daemon: every answer has to be the same."""

from __future__ import annotations

import difflib
import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from support.stack import Stack

MASKS = (
    (r"\x1b\[[0-9;]*[A-Za-z]", ""),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000 UTC", "TIME"),
    (r"done: [0-9.]+[a-zµ]+", "done: DURATION"),
    (r"elapsed: .*", "ELAPSED"),
    (r"fifo/\d+/", "fifo/N/"),
    (r'"pid": ?\d+', '"pid": N'),
    (r"snapshots/\d+/", "snapshots/N/"),
    (r"AGE\t+LABELS", "AGE\tLABELS"),
    (r"(Less than a second|\d+ seconds?|About a minute|\d+ minutes)\t+", "AGE\t"),
)


def masked(text: str) -> str:
    """The text without times, numbers that differ from run to run, and the random order of labels."""
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text)
    # Go's maps have no order: labels are compared sorted.
    return re.sub(r"\S+=\S+(,\S+=\S+)*", lambda m: ",".join(sorted(m.group().split(","))), text)


# ctr's view of its progress runs on for an instant when the pull has ended.
LATE = re.compile(
    r'time="\S+" level=error msg="(active check failed|failed to get content info)" error="context canceled"'
)
HTTPS_FIRST = re.compile(r'time="\S+" level=info msg="host will try HTTPS first ')


def said_by_ctr(text: str) -> str:
    """ctr's stderr in 1.6's words.

    1.7 tries HTTPS on this machine, too, says so, and which request had a strange status; it asks for a profile's debug=0.
    """
    lines = [line for line in text.splitlines(keepends=True) if not LATE.match(line)]
    others = [line for line in lines if not HTTPS_FIRST.match(line)]
    if len(others) < len(lines):
        others = [line.replace("https://127.0.0.1:", "http://127.0.0.1:") for line in others]
    text = re.sub(r"unexpected status from [A-Z]+ request to \S+: ", "unexpected status: ", "".join(others))
    return re.sub(r'(/debug/pprof/\S+?)[?&]debug=0"', r'\1"', text)


def expand(word: str, names: Mapping[str, str]) -> str:
    """`~a_b` is the one word `a b`; marks such as %B stand for names."""
    if word.startswith("~"):
        return word[1:].replace("_", " ")
    for mark, name in names.items():
        word = word.replace(mark, name)
    return word


def compare(
    stack: Stack,
    steps: Sequence[str],
    names: Mapping[str, str],
    clean: Callable[[], None],
    mask: Callable[[str], str] = masked,
) -> list[tuple[int, str, str]]:
    """Runs the steps with ctr, then with pyctr, from the same start. A step that begins with `!` is a shell's.

    Gives pyctr's answers: status, stdout, stderr.
    """
    answers: dict[str, list[tuple[int, str, str]]] = {}
    for program in ("ctr", "pyctr"):
        clean()
        answers[program] = []
        for step in steps:
            if step.startswith("!"):
                shell = ["sh", "-c", " ".join(expand(word, names) for word in step[1:].split(" "))]
                done = subprocess.run(shell, capture_output=True, text=True, timeout=30, check=False)
            else:
                words = [expand(word, names) for word in step.split()]
                done = stack.run(program, *words, check=False, timeout=30)
            said = said_by_ctr(done.stderr) if program == "ctr" else done.stderr
            answers[program].append((done.returncode, mask(done.stdout), mask(said)))
    clean()
    for step, real, ours in zip(steps, answers["ctr"], answers["pyctr"], strict=True):
        assert ours == real, f"ctr {step}\n" + "\n".join(_difference(real, ours))
    return answers["pyctr"]


def _difference(real: tuple[int, str, str], ours: tuple[int, str, str]) -> list[str]:
    """The lines that differ."""
    before, after = ([f"status {answer[0]}", *"".join(answer[1:]).splitlines()] for answer in (real, ours))
    return [line for line in difflib.ndiff(before, after) if not line.startswith("  ")]
