"""Every command, alias and flag of containerd's ctr is here, from tables of names (ctr 1.6's help, containerd 2.4's sources)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycontainerd.ctr import flags as kinds
from pycontainerd.ctr import help_text, main, tree

if TYPE_CHECKING:
    from pycontainerd.ctr.command import Command, Group
    from pycontainerd.ctr.flags import Flag

GOLDEN = Path(__file__).resolve().parents[2] / "golden/ctr"
KINDS = {
    "Bool": kinds.BOOL, "String": kinds.STRING, "StringSlice": kinds.STRINGS, "Int": kinds.INT, "Int64": kinds.INT,
    "Uint": kinds.UINT, "Uint64": kinds.UINT, "IntSlice": kinds.INTS, "Float64": kinds.FLOAT, "Duration": kinds.DURATION,
}  # fmt: skip
# ctr takes them there without effect (docs/compatibility.md): nothing of `mount` reaches a registry.
WITHOUT_EFFECT = {
    *(f"images {verb}" for verb in ("mount", "unmount")),
}
REGISTRY = {"skip-verify", "plain-http", "user", "refresh", "hosts-dir", "tlscacert", "tlscert", "tlskey", "http-dump", "http-trace", "label"}  # fmt: skip


def rows(name: str) -> list[list[str]]:
    lines = (GOLDEN / name).read_text().splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


def collect() -> dict[str, tuple[tuple[str, ...], tuple[Flag, ...]]]:
    """Full name -> all names of the last word, and the flags."""
    found: dict[str, tuple[tuple[str, ...], tuple[Flag, ...]]] = {}

    def add(title: str, command: Command) -> None:
        found[title] = command.names, tuple(command.flags)
        for below in command.subcommands:
            add(f"{title} {below.names[0]}", below)

    for group in tree.GROUPS:
        module = main.load(group)
        if hasattr(module, "COMMAND"):
            found[group.names[0]] = group.names, tuple(module.COMMAND.flags)
            continue
        found[group.names[0]] = group.names, tuple(getattr(module, "FLAGS", ()))
        for command in module.COMMANDS:
            add(f"{group.names[0]} {command.names[0]}", command)
    return found


OURS = collect()


@pytest.mark.parametrize("row", rows("commands.tsv"), ids=lambda row: row[0])
def test_a_command_is_here_by_all_its_names(row: list[str]) -> None:
    name, aliases, _ = row
    assert name in OURS
    wanted = {alias.strip() for alias in aliases.split(",") if alias.strip()}
    assert wanted <= set(OURS[name][0])


@pytest.mark.parametrize("row", rows("flags.tsv"), ids=lambda row: f"{row[0]} --{row[1]}")
def test_a_flag_is_here_with_its_alias_and_kind(row: list[str]) -> None:
    command, name, alias, kind, environment, _ = row
    flag = next((flag for flag in OURS[command][1] if name in flag.names), None)
    if command in WITHOUT_EFFECT and name in REGISTRY and (command, name) != ("images mount", "label"):
        assert flag is None, "it is defined now: take it out of WITHOUT_EFFECT"
        return
    assert flag is not None
    assert flag.names[0] == name
    assert not alias or alias in flag.names
    assert flag.kind == KINDS[kind]
    assert flag.env == environment


def test_no_name_is_two_commands() -> None:
    for title in {title.rpartition(" ")[0] for title in OURS}:
        below = [
            names for name, (names, _) in OURS.items() if name.rpartition(" ")[0] == title and name != title
        ]
        names = [name for some in below for name in some]
        assert len(names) == len(set(names)), title


@pytest.mark.parametrize("title", sorted(OURS))
def test_every_flag_has_its_words(title: str) -> None:
    for flag in OURS[title][1]:
        assert len(flag.usage.split()) > 1, f"{title} --{flag.names[0]}"
        assert not flag.usage.endswith(".")


@pytest.mark.parametrize("group", tree.GROUPS, ids=lambda group: group.names[0])
def test_help_of_a_command_shows_what_it_is_all_its_flags_and_arguments(group: Group) -> None:
    for command in getattr(main.load(group), "COMMANDS", ()):
        text = help_text.command(f"ctr {group.names[0]} {command.names[0]}", command)
        assert f" - {command.usage}\n" in text
        assert command.arguments in text
        assert all(
            f"--{flag.names[0]}" in text or f"-{flag.names[0]}" in text
            for flag in command.flags
            if not flag.hidden
        )
