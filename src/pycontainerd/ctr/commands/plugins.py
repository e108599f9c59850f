"""`ctr plugins`: what the daemon is built from, and what of it works."""

from __future__ import annotations

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command
from pycontainerd.ctr.flags import BOOL, Flag
from pycontainerd.lib.errdefs import CODE_NAMES

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainerd.ctr.command import Call


def _list(call: Call) -> int:
    from pycontainerd.ctr import session
    from pycontainerd.lib.api.light import introspection_v1

    with session.connect(call) as client:
        reply = client.call(
            introspection_v1.INTROSPECTION, "Plugins", introspection_v1.PluginsRequest(filters=call.arguments)
        )
    if call.flags.on("quiet"):
        display.write("".join(f"{plugin.id}\n" for plugin in reply.plugins))
        return 0
    if call.flags.on("detailed"):
        display.write(
            display.tabulate("\t\t\t\n".join(_details(plugin) for plugin in reply.plugins), display.WIDE)
        )
        return 0
    display.print_rows([_row(plugin) for plugin in reply.plugins], call.flags.text("format"), _table)
    return 0


def _platforms(plugin: Any) -> str:
    from pycontainerd.lib.platforms import Platform

    return ",".join(str(Platform(one.os, one.architecture, one.variant)) for one in plugin.platforms)


def _row(plugin: Any) -> dict[str, Any]:
    message = plugin.init_err.message if plugin.HasField("init_err") else None
    status = "ok"
    if message is not None:
        status = "skip" if message.endswith("skip plugin") else "error"
    return {"type": plugin.type, "id": plugin.id, "platforms": _platforms(plugin), "status": status}


def _table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [f"{row['type']}\t{row['id']}\t{row['platforms'] or '-'}\t{row['status']}\t" for row in rows]
    display.table("TYPE\tID\tPLATFORMS\tSTATUS\t", lines, display.WIDE)


def _details(plugin: Any) -> str:
    """One block, with Println's spaces after ctr's tabs."""
    lines = [f"Type:\t {plugin.type}", f"ID:\t {plugin.id}"]
    if plugin.requires:
        lines += ["Requires:\t", *(f"\t {name}" for name in plugin.requires)]
    if plugin.platforms:
        lines.append(f"Platforms:\t {_platforms(plugin)}")
    if plugin.exports:
        lines += ["Exports:\t", *(f"\t {key} \t {plugin.exports[key]}" for key in sorted(plugin.exports))]
    if plugin.capabilities:
        lines.append(f"Capabilities:\t {','.join(plugin.capabilities)}")
    if plugin.HasField("init_err"):
        code = (
            CODE_NAMES[plugin.init_err.code]
            if plugin.init_err.code < len(CODE_NAMES)
            else str(plugin.init_err.code)
        )
        lines += ["Error:\t", f"\t Code:\t {code}", f"\t Message:\t {plugin.init_err.message}"]
    return "\n".join([*lines, ""])


COMMANDS = (
    Command(
        "list, ls",
        "list the daemon's plugins",
        _list,
        flags=(
            Flag("quiet, q", BOOL, "print ids only"),
            Flag("detailed, d", BOOL, "print everything about each plugin"),
            text.FORMAT_FLAG,
        ),
    ),
)
