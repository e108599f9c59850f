"""Text of containerd 2's ctr that no daemon here makes ctr print; byte-level, from its sources' formats."""

from __future__ import annotations

import json

from pycontainerd.ctr.commands import deprecations, plugins
from pycontainerd.lib.api.light import introspection_v1, runc_v1, types, wkt

SERVER = introspection_v1.ServerResponse(
    deprecations=[
        introspection_v1.DeprecationWarning(
            id="io.containerd.deprecation/x",
            message="x will go",
            last_occurrence=wkt.Timestamp(seconds=1_700_000_000, nanos=120_000_000),
        )
    ]
)


def test_deprecations_as_a_table(capfd) -> None:
    deprecations.show(SERVER, "")
    assert capfd.readouterr().out == (
        "ID                             LAST OCCURRENCE            MESSAGE    \n"
        "io.containerd.deprecation/x    2023-11-14T22:13:20.12Z    x will go\n"
    )


def test_deprecations_as_json(capfd) -> None:
    deprecations.show(SERVER, "json")
    assert capfd.readouterr().out == (
        '[\n    {\n        "id": "io.containerd.deprecation/x",\n        "message": "x will go",\n'
        '        "lastOccurrence": "2023-11-14T22:13:20.12Z"\n    }\n]\n'
    )


def test_what_a_runtime_says_is_decoded_where_it_is_known() -> None:
    options = runc_v1.Options(binary_name="runc", systemd_cgroup=True)
    features = {"ociVersionMin": "1.0.0", "linux": {"seccomp": {"enabled": True}}}
    info = types.RuntimeInfo(
        name="io.containerd.runc.v2",
        version=types.RuntimeVersion(version="v2.0.0", revision="abc"),
        options=wkt.Any(type_url="containerd.runc.v1.Options", value=options.SerializeToString()),
        features=wkt.Any(
            type_url="types.containerd.io/opencontainers/runtime-spec/1/features/Features",
            value=json.dumps(features).encode(),
        ),
        annotations={"b": "2", "a": "1"},
    )
    assert plugins.runtime_document(info) == {
        "Name": "io.containerd.runc.v2",
        "Version": {"Version": "v2.0.0", "Revision": "abc"},
        "Options": {"binary_name": "runc", "systemd_cgroup": True},
        "Features": features,
        "Annotations": {"a": "1", "b": "2"},
    }
    other = types.RuntimeInfo(options=wkt.Any(type_url="x.Options", value=b"\x01"))
    assert plugins.runtime_document(other)["Options"] == {"type_url": "x.Options", "value": "AQ=="}
    assert plugins.runtime_document(types.RuntimeInfo())["Features"] is None
