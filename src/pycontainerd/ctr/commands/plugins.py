"""`ctr plugins`: what the daemon is built from, and what of it works."""

from __future__ import annotations

from pycontainerd.ctr import display, text
from pycontainerd.ctr.command import Command
from pycontainerd.ctr.container_flags import RUNTIME_FLAGS
from pycontainerd.ctr.flags import BOOL, Flag
from pycontainerd.lib.errdefs import CODE_NAMES, Unimplemented

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainerd.ctr.command import Call
    from pycontainerd.lib.api.light import types, wkt


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
    if call.flags.on("detailed") and call.flags.text("format") == "json":
        from pycontainerd.ctr.metrics_view import as_json

        display.write_json([as_json(plugin) for plugin in reply.plugins], 2)
        return 0
    if call.flags.on("detailed"):
        display.write(
            display.tabulate("\t\t\t\n".join(_details(plugin) for plugin in reply.plugins), display.WIDE)
        )
        return 0
    display.print_rows([_row(plugin) for plugin in reply.plugins], call.flags.text("format"), _table)
    return 0


def _inspect_runtime(call: Call) -> int:
    """What the shim's -info says, through the daemon; options and features decoded where they are known."""
    from pycontainerd.ctr import make_container, session
    from pycontainerd.lib.api import anys
    from pycontainerd.lib.api.light import introspection_v1, types

    options = make_container.runtime_options(call, call.flags.text("runtime"))
    wanted = types.RuntimeRequest(
        runtime_path=call.flags.text("runtime"), options=None if options is None else anys.pack(options)
    )
    request = introspection_v1.PluginInfoRequest(
        type="io.containerd.runtime.v2", id="task", options=anys.pack(wanted)
    )
    with session.connect(call) as client:
        try:
            reply = client.call(introspection_v1.INTROSPECTION, "PluginInfo", request)
        except Unimplemented as error:
            raise Unimplemented(
                f"the daemon can't ask a runtime what it is: {error}",
                hint="containerd can since 2.0; ask the shim yourself: containerd-shim-NAME-VERSION -info",
            ) from error
    display.write_json(runtime_document(types.RuntimeInfo.FromString(reply.extra.value)))
    return 0


def runtime_document(info: types.RuntimeInfo) -> dict[str, Any]:
    """A RuntimeInfo as containerd's client prints it."""
    return {
        "Name": info.name,
        "Version": {"Version": info.version.version, "Revision": info.version.revision},
        "Options": _decoded(info.options) if info.HasField("options") else None,
        "Features": _decoded(info.features) if info.HasField("features") else None,
        "Annotations": dict(sorted(info.annotations.items())) or None,
    }


def _decoded(value: wkt.Any) -> Any:
    """runc's options by their fields, documents of the runtime-spec as they are, anything else by its bytes."""
    import json

    from pycontainerd.ctr.metrics_view import as_json
    from pycontainerd.lib.api import anys
    from pycontainerd.lib.api.light import runc_v1

    if not value.type_url:
        return None
    if anys.is_type(value, runc_v1.Options):
        return as_json(runc_v1.Options.FromString(value.value))
    if "/runtime-spec/" in value.type_url:
        return json.loads(value.value)
    return display.any_json(value)


def _platforms(plugin: Any) -> str:
    from pycontainerd.lib.platforms import Platform

    return ",".join(str(Platform(one.os, one.architecture, one.variant)) for one in plugin.platforms)


def _row(plugin: Any) -> dict[str, Any]:
    message = plugin.init_err.message if plugin.HasField("init_err") else None
    status = "ok"
    if message is not None:
        status = "skip" if "skip plugin" in message else "error"
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
        description="filters are type==..., id==...; a plugin that failed says why with --detailed",
    ),
    Command(
        "inspect-runtime",
        "print what a runtime says of itself: version, options, features",
        _inspect_runtime,
        arguments="[flags]",
        flags=RUNTIME_FLAGS,
        description="the daemon runs the runtime's shim with -info, as it would start it",
    ),
)
