"""One plugin's record by type and id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pycontainerd.daemon.core.blocking import Pools
from pycontainerd.daemon.core.plugins import PluginInfo
from pycontainerd.daemon.services.introspection import IntrospectionService
from pycontainerd.lib import errdefs
from pycontainerd.lib.api.full import introspection_v1, types, wkt

if TYPE_CHECKING:
    from pycontainerd.daemon.core.typed import TypedValue


class Informer:
    """A runtime that says what it was asked."""

    async def runtime_info(self, runtime: str, options: TypedValue | None) -> bytes:
        asked = "" if options is None else options.type_url
        return types.RuntimeInfo(name=runtime, annotations={"options": asked}).SerializeToString()


SERVICE = IntrospectionService(
    (
        PluginInfo("io.containerd.runtime.v2", "task"),
        PluginInfo("io.containerd.snapshotter.v1", "native", capabilities=lambda: ["rebase"]),
        PluginInfo("io.containerd.snapshotter.v1", "overlayfs", error=(9, "no overlay here")),
    ),
    "u1",
    {("io.containerd.runtime.v2", "task"): Informer()},
    Pools(),
)


def info(id_: str, **fields: object):
    request = introspection_v1.PluginInfoRequest(type="io.containerd.snapshotter.v1", id=id_, **fields)
    return asyncio.run(SERVICE.plugin_info(None, request))


def test_a_plugin_is_found_by_type_and_id():
    assert (info("native").plugin.type, info("native").plugin.id) == (
        "io.containerd.snapshotter.v1",
        "native",
    )
    assert list(info("native").plugin.capabilities) == ["rebase"]
    assert info("overlayfs").plugin.init_err.message == "no overlay here"


@pytest.mark.parametrize(
    ("id_", "fields", "error"),
    [
        ("nosuch", {}, errdefs.NotFound),
        ("native", {"options": wkt.Any(type_url="x")}, errdefs.Unimplemented),
        ("overlayfs", {"options": wkt.Any(type_url="x")}, errdefs.FailedPrecondition),
    ],
)
def test_what_cannot_be_answered_says_so(id_, fields, error):
    with pytest.raises(error, match=rf"plugin io\.containerd\.snapshotter\.v1\.{id_} "):
        info(id_, **fields)


def of_tasks(options: wkt.Any) -> introspection_v1.PluginInfoResponse:
    request = introspection_v1.PluginInfoRequest(type="io.containerd.runtime.v2", id="task", options=options)
    return asyncio.run(SERVICE.plugin_info(None, request))


def test_a_runtime_is_asked_what_it_is():
    wanted = types.RuntimeRequest(runtime_path="io.containerd.x.v1", options=wkt.Any(type_url="x.Options"))
    options = wkt.Any(type_url="containerd.types.RuntimeRequest", value=wanted.SerializeToString())
    extra = of_tasks(options).extra
    assert extra.type_url == "containerd.types.RuntimeInfo"
    said = types.RuntimeInfo.FromString(extra.value)
    assert (said.name, dict(said.annotations)) == ("io.containerd.x.v1", {"options": "x.Options"})


def test_another_question_is_refused():
    with pytest.raises(errdefs.Unimplemented, match=r"unknown request type x\.Other"):
        of_tasks(wkt.Any(type_url="x.Other"))
