"""The wire messages: equal to the tables of the public API, and alike on both back ends."""

from __future__ import annotations

import csv
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib.api import light
from pycontainerd.lib.api.codec import DecodeError, Message, Service, before_field, split_field
from pycontainerd.lib.api.light import content_v1, events, tasks_v1, types, wkt

GOLDEN = Path(__file__).parents[2] / "golden/api"
MODULES = sorted(m.name for m in pkgutil.iter_modules(light.__path__))
REPLACED = {"containerd.services.events.v1.Envelope", "containerd.services.events.ttrpc.v1.Envelope"}
KINDS = {
    "int32": "INT",
    "int64": "INT",
    "uint32": "UINT",
    "uint64": "UINT",
    "bool": "BOOL",
    "string": "STRING",
}
KINDS |= {"bytes": "BYTES", "double": "DOUBLE"}


def modules(backend: str) -> list[object]:
    return [importlib.import_module(f"pycontainerd.lib.api.{backend}.{name}") for name in MODULES]


def walk(owner: object, base: type) -> list[type]:
    values = [getattr(owner, name) for name in getattr(owner, "__all__", vars(owner))]
    found = [v for v in values if isinstance(v, type) and issubclass(v, base) and v is not base]
    return found + [inner for cls in found for inner in walk(cls, base)]


LIGHT = {cls.FULL_NAME: cls for module in modules("light") for cls in walk(module, Message)}


def rows(name: str) -> list[dict[str, str]]:
    with (GOLDEN / f"{name}.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize(
    "row", [r for r in rows("messages") if r["number"]], ids=lambda r: f"{r['message']}.{r['field']}"
)
def test_every_field_of_the_tables_has_its_number_and_kind(row):
    if row["message"] in REPLACED:
        pytest.skip("replaced by containerd.types.Envelope, same wire format")
    fields = {
        name: (number, label, kind, ref) for number, name, label, kind, ref in LIGHT[row["message"]].FIELDS
    }
    number, label, kind, ref = fields[row["field"]]
    assert number == int(row["number"])
    value_type = row["type"].removeprefix("map<").removesuffix(">").split(",")[-1]
    enums = {r["enum"] for r in rows("enums")}
    assert kind == KINDS.get(value_type, "INT" if value_type in enums else "MESSAGE")
    assert label.startswith("MAP") == row["type"].startswith("map<")
    assert (label == "REPEATED") == (row["label"] == "repeated")
    if kind == "MESSAGE":
        assert ref == value_type


def test_no_message_has_a_field_that_the_tables_lack():
    known = {(r["message"], r["field"]) for r in rows("messages")}
    outside = ("google.", "grpc.")
    ours = {
        (c.FULL_NAME, row[1])
        for c in LIGHT.values()
        if not c.FULL_NAME.startswith(outside)
        for row in c.FIELDS
    }
    assert ours - known == set()


ALONE = """
import sys
sys.path.insert(0, {src!r})
from pycontainerd.lib.api import codec
from pycontainerd.lib.api.light import {module} as module
for value in [getattr(module, name) for name in module.__all__]:
    if isinstance(value, codec.Service):
        print(*(kind.FULL_NAME for method in value.methods for kind in (method.request, method.response)))
    elif issubclass(value, codec.Message):
        print(*(codec.message_class(ref).FULL_NAME for _, _, _, _, ref in value.FIELDS if ref))
"""


@pytest.mark.parametrize("module", MODULES)
def test_a_module_alone_knows_every_message_it_refers_to(module):
    source = importlib.import_module(f"pycontainerd.lib.api.light.{module}")
    src = str(Path(light.__file__).parents[4])
    argv = [sys.executable, "-IS", "-c", ALONE.format(src=src, module=module)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    for name in done.stdout.split():
        assert name in LIGHT
    assert bool(done.stdout.strip()) == any(
        isinstance(value, Service)
        or (isinstance(value, type) and any(row[4] for row in getattr(value, "FIELDS", ())))
        for value in (getattr(source, name) for name in source.__all__)
    )


def test_a_message_is_made_once_and_only_what_there_is() -> None:
    assert types.Descriptor is types.Descriptor
    assert tasks_v1.TASKS.method("Create").request is tasks_v1.CreateTaskRequest
    with pytest.raises(AttributeError, match="Nothing"):
        types.Nothing  # noqa: B018


@pytest.mark.parametrize("backend", ["light", "full"])
def test_every_method_of_the_tables_is_served_with_its_streaming_mode(backend):
    services = {v.name: v for m in modules(backend) for v in vars(m).values() if isinstance(v, Service)}
    for row in rows("api"):
        method = services[row["service"]].method(row["method"])
        assert (method.client_streaming, method.server_streaming) == (
            row["client_streaming"] == "yes",
            row["server_streaming"] == "yes",
        )


def test_enums_have_the_numbers_of_the_tables():
    from pycontainerd.lib.api.full import content_v1 as full_content
    from pycontainerd.lib.api.light import snapshots_v1, task_types

    assert task_types.Status.STOPPED == 3
    assert snapshots_v1.Kind.COMMITTED == 3
    assert content_v1.WriteAction.COMMIT == full_content.WriteAction.COMMIT == 2


def scalar(kind: str) -> st.SearchStrategy[object]:
    return {
        "INT": st.integers(0, 2**31 - 1) | st.integers(-(2**31), -1),
        "UINT": st.integers(0, 2**32 - 1),
        "BOOL": st.booleans(),
        "STRING": st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        "BYTES": st.binary(max_size=12),
        "DOUBLE": st.floats(allow_nan=False),
    }[kind]


@st.composite
def message(draw: st.DrawFn, cls: type[Message], depth: int = 0) -> Message:
    values: dict[str, object] = {}
    for _, name, label, kind, ref in cls.FIELDS:
        if kind == "MESSAGE":
            if depth > 1:
                continue
            one = message(LIGHT[ref], depth + 1)
        else:
            one = scalar(kind)
        if label == "REPEATED":
            values[name] = draw(st.lists(one, max_size=2))
        elif label.startswith("MAP_"):
            values[name] = draw(st.dictionaries(scalar(label[4:]), one, max_size=2))
        elif draw(st.booleans()):
            values[name] = draw(one)
    return cls(**values)


def full_class(cls: type[Message]) -> type:
    from google.protobuf import message_factory

    from pycontainerd.lib.api.pool import _pool

    return message_factory.GetMessageClass(_pool()[0].FindMessageTypeByName(cls.FULL_NAME))


# Members of one oneof may all be set in a light message; upb keeps the last. Those are checked by their own test.
ONEOF = {"containerd.runtime.bootstrap.v1.LogLevel"}


@given(st.sampled_from(sorted(LIGHT)).flatmap(lambda name: message(LIGHT[name])))
def test_what_the_small_codec_writes_upb_reads_and_writes_back_alike(value):
    other = full_class(type(value)).FromString(value.SerializeToString())
    assert type(value).FromString(other.SerializeToString(deterministic=True)) == value


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_raise_decode_error_only(data):
    try:
        tasks_v1.CreateTaskRequest.FromString(data)
    except DecodeError:
        return


def test_unset_submessages_read_as_empty_and_have_no_presence():
    request = tasks_v1.CreateTaskRequest(container_id="x")
    assert request.options.type_url == ""
    assert not request.HasField("options")
    assert tasks_v1.CreateTaskRequest(options=wkt.Any()).HasField("options")


def test_unknown_fields_are_skipped():
    data = types.Mount(type="bind").SerializeToString() + b"\xaa\x06\x03abc" + b"\x90\x06\x01"
    assert types.Mount.FromString(data).type == "bind"


def test_nested_types_are_attributes():
    assert events.ContainerCreate(runtime=events.ContainerCreate.Runtime(name="r")).runtime.name == "r"


def test_truncated_string_is_refused():
    with pytest.raises(DecodeError):
        types.Mount.FromString(b"\x0a\x05ab")


def test_wrong_field_names_are_refused():
    with pytest.raises(AttributeError):
        types.Mount(nosuch=1)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_field_that_travels_beside_its_message_is_part_of_it(data, unknown):
    request = content_v1.WriteContentRequest(action=1, ref="r", offset=7)
    sent = before_field(request, "data", len(data)) + data
    assert content_v1.WriteContentRequest.FromString(sent) == content_v1.WriteContentRequest(
        action=1, ref="r", offset=7, data=data
    )
    tail = content_v1.WriteContentRequest(labels={"a": "b"}).SerializeToString()
    rest, value = split_field(6, sent + tail)
    assert value == data
    assert content_v1.WriteContentRequest.FromString(rest) == content_v1.WriteContentRequest(
        action=1, ref="r", offset=7, labels={"a": "b"}
    )
    split_field(6, unknown)  # whatever it is


def test_of_a_field_that_comes_twice_the_later_one_is_left():
    twice = b"\x32\x01a\x32\x02bc"
    rest, value = split_field(6, twice)
    assert (value, content_v1.WriteContentRequest.FromString(rest).data) == (b"a", b"bc")
    assert split_field(6, b"\x32\x05abc") == (b"\x32\x05abc", b"")
