"""One plugin's record by type and id."""

from __future__ import annotations

import asyncio

import pytest

from pycontainerd.daemon.core.plugins import PluginInfo
from pycontainerd.daemon.services.introspection import IntrospectionService
from pycontainerd.lib import errdefs
from pycontainerd.lib.api.full import introspection_v1, wkt

SERVICE = IntrospectionService(
    (
        PluginInfo("io.containerd.snapshotter.v1", "native"),
        PluginInfo("io.containerd.snapshotter.v1", "overlayfs", error=(9, "no overlay here")),
    ),
    "u1",
)


def info(id_: str, **fields: object):
    request = introspection_v1.PluginInfoRequest(type="io.containerd.snapshotter.v1", id=id_, **fields)
    return asyncio.run(SERVICE.plugin_info(None, request))


def test_a_plugin_is_found_by_type_and_id():
    assert (info("native").plugin.type, info("native").plugin.id) == (
        "io.containerd.snapshotter.v1",
        "native",
    )
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
