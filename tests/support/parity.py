"""The same command lines by Debian's ctr and by pyctr on one daemon: every answer has to be the same."""

from __future__ import annotations

import difflib
import re
import subprocess
from datetime import UTC, datetime, timedelta
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
# 1.7 names every deprecated thing that its daemon has met.
DEPRECATED = re.compile(r'time="\S+" level=warning msg="DEPRECATION: ')
HTTPS_FIRST = re.compile(r'time="\S+" level=info msg="host will try HTTPS first ')


def said_by_ctr(text: str) -> str:
    """ctr's stderr in 1.6's words.

    1.7 tries HTTPS on this machine, too, says so, and which request had a strange status; it asks for a profile's debug=0.
    """
    lines = [
        line for line in text.splitlines(keepends=True) if not (LATE.match(line) or DEPRECATED.match(line))
    ]
    others = [line for line in lines if not HTTPS_FIRST.match(line)]
    if len(others) < len(lines):
        others = [line.replace("https://127.0.0.1:", "http://127.0.0.1:") for line in others]
    text = re.sub(r"unexpected status from [A-Z]+ request to \S+: ", "unexpected status: ", "".join(others))
    return re.sub(r'(/debug/pprof/\S+?)[?&]debug=0"', r'\1"', text)


def _time(match: re.Match[str], between: str) -> str:
    """A protobuf time, which 1.7 shows as it is."""
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(match["seconds"]))
    nanos = f".{int(match['nanos']):09}".rstrip("0") if match["nanos"] else ""
    return f"{time:%Y-%m-%d}".zfill(10) + f"{between}{time:%H:%M:%S}{nanos}"


# What 1.7 shows of containers, specs, mounts and tasks, and what 1.6 shows there.
SINCE_1_7: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r'"Extensions": \{\}', '"Extensions": null'),
    (r'\n *"SandboxID": "",', ""),
    (r'\n *"Target": "",', ""),
    (
        r'(?<="exited_at":)( ?)\{\s*"seconds": ?(?P<seconds>-?\d+)(,\s*"nanos": ?(?P<nanos>\d+))?\s*\}',
        lambda match: f'{match[1]}"{_time(match, "T")}Z"',
    ),
    (
        r"\bseconds:(?P<seconds>\d+)( +nanos:(?P<nanos>\d+))?",
        lambda match: f"{_time(match, ' ')} +0000 UTC",
    ),
    (r'"ociVersion": "1\.[12]\.\d"', '"ociVersion": "1.0.2-dev"'),
    (r'\n *"/sys/devices/virtual/powercap",', ""),
)


def shown_by_ctr(text: str) -> str:
    """ctr's stdout as 1.6 shows it."""
    for pattern, older in SINCE_1_7:
        text = re.sub(pattern, older, text)
    return text


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
            shown, said = done.stdout, done.stderr
            if program == "ctr":
                shown, said = shown_by_ctr(shown), said_by_ctr(said)
            answers[program].append((done.returncode, mask(shown), mask(said)))
    clean()
    differences = [
        "\n".join([f"ctr {step}", *_difference(real, ours)])
        for step, real, ours in zip(steps, answers["ctr"], answers["pyctr"], strict=True)
        if ours != real
    ]
    assert not differences, "\n".join(differences)
    return answers["pyctr"]


def _difference(real: tuple[int, str, str], ours: tuple[int, str, str]) -> list[str]:
    """The lines that differ."""
    before, after = ([f"status {answer[0]}", *"".join(answer[1:]).splitlines()] for answer in (real, ours))
    return [line for line in difflib.ndiff(before, after) if not line.startswith("  ")]
