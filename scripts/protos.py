"""Writes the .proto files from the tables of the public API, and the two back ends from the .proto files.

Usage: scripts/protos.py tables   tests/golden/api/*.tsv -> src/pycontainerd/lib/api/proto/**.proto (files not in the tables stay)
       scripts/protos.py code     proto/**.proto -> descriptors.binpb, light/*.py and *.pyi, full/*.py
       scripts/protos.py check    fails when `code` would change anything
Needs: grpcio-tools (dependency group "protos") for the compiler; nothing of it is needed at run time.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
API = ROOT / "src/pycontainerd/lib/api"
PROTO = API / "proto"
GOLDEN = ROOT / "tests/golden/api"

MODULES = {
    "containerd.types": "types",
    "containerd.types.transfer": "transfer_types",
    "containerd.v1.types": "task_types",
    "containerd.events": "events",
    "containerd.runc.v1": "runc_v1",
    "containerd.linux.runc": "runctypes",
    "containerd.task.v2": "task_v2",
    "containerd.task.v3": "task_v3",
    "containerd.runtime.linux.shim.v1": "shim_v1",
    "containerd.runtime.sandbox.v1": "runtime_sandbox_v1",
    "containerd.runtime.bootstrap.v1": "bootstrap_v1",
    "containerd.services.events.ttrpc.v1": "events_ttrpc_v1",
    "io.containerd.cgroups.v1": "cgroups_v1",
    "io.containerd.cgroups.v2": "cgroups_v2",
    "runtimeoptions.v1": "runtimeoptions_v1",
    "google.protobuf": "wkt",
    "google.rpc": "rpc",
    "grpc.health.v1": "health_v1",
    "ttrpc": "ttrpc",
}


def module_of(package: str) -> str:
    """The Python module name of a proto package."""
    if package in MODULES:
        return MODULES[package]
    parts = package.split(".")
    if parts[:2] == ["containerd", "services"]:
        return "_".join(parts[2:])
    raise SystemExit(f"no module name for package {package}")


def rows(name: str) -> list[dict[str, str]]:
    """One golden table as dictionaries."""
    with (GOLDEN / f"{name}.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


# What the tables list but newer files replaced: the 1.6 Envelopes are wire-compatible with containerd.types.Envelope.
REPLACED = {"containerd.services.events.v1.Envelope", "containerd.services.events.ttrpc.v1.Envelope"}
# 1.6's file of a message that moved: its extra field belongs to the one message.
MOVED = {"runtime/v2/runc/options/oci.proto": "api/types/runc/options/oci.proto"}

WKT_IMPORTS = {
    "google.protobuf.Any": "google/protobuf/any.proto",
    "google.protobuf.Timestamp": "google/protobuf/timestamp.proto",
    "google.protobuf.Empty": "google/protobuf/empty.proto",
    "google.protobuf.FieldMask": "google/protobuf/field_mask.proto",
    "google.protobuf.Duration": "google/protobuf/duration.proto",
    "google.rpc.Status": "google/rpc/status.proto",
}


class Tables:
    """The golden tables, indexed the way a .proto file is written."""

    def __init__(self) -> None:
        self.fields: dict[str, list[dict[str, str]]] = defaultdict(list)
        self.file: dict[str, str] = {}
        self.enums: dict[str, list[dict[str, str]]] = defaultdict(list)
        self.services: dict[str, list[dict[str, str]]] = defaultdict(list)
        for row in rows("messages"):
            if row["message"] in REPLACED:
                continue
            self.file.setdefault(row["message"], MOVED.get(row["proto_file"], row["proto_file"]))
            if row["number"]:
                self.fields[row["message"]].append(row)
        for row in rows("enums"):
            self.enums[row["enum"]].append(row)
            self.file.setdefault(row["enum"], row["proto_file"])
        for row in rows("api"):
            self.services[row["service"]].append(row)
            self.file.setdefault(row["service"], row["proto_file"])
            for side in ("request", "response"):
                if not row[side].startswith("google."):
                    self.file.setdefault(row[side], row["proto_file"])

    def is_nested(self, name: str) -> bool:
        """Whether a message or enum stands inside a message."""
        return name.rpartition(".")[0] in self.file

    def package(self, name: str) -> str:
        """The proto package of a message, enum or service."""
        owner = name.rpartition(".")[0]
        return self.package(owner) if owner in self.file else owner


def write_tables() -> None:
    """Golden tables -> .proto files."""
    tables = Tables()
    files: dict[str, list[str]] = defaultdict(list)
    for name, path in tables.file.items():
        files[path].append(name)
    for path, names in sorted(files.items()):
        target = PROTO / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(proto_text(tables, path, names))


def proto_text(tables: Tables, path: str, names: list[str]) -> str:
    """The text of one .proto file."""
    package = tables.package(names[0])
    imports: set[str] = set()

    def use(kind: str) -> str:
        for part in kind.removeprefix("map<").removesuffix(">").split(","):
            if part in WKT_IMPORTS:
                imports.add(WKT_IMPORTS[part])
            elif part in tables.file and tables.file[part] != path:
                imports.add(tables.file[part])
        return kind

    body: list[str] = []
    for name in names:
        if tables.is_nested(name):
            continue
        if name in tables.services:
            body += service_text(name, tables.services[name], use)
        elif name in tables.enums:
            body += enum_text(name, tables.enums[name], "")
        else:
            body += message_text(tables, name, use, "")
        body.append("")
    head = ['syntax = "proto3";', "", f"package {package};", ""]
    head += [f'import "{item}";' for item in sorted(imports)] + ([""] if imports else [])
    return "\n".join(head + body)


def message_text(tables: Tables, name: str, use: object, indent: str) -> list[str]:
    """One message with what is nested in it."""
    assert callable(use)
    out = [f"{indent}message {name.rpartition('.')[2]} {{"]
    inner = indent + "  "
    for nested in tables.file:
        if nested.rpartition(".")[0] == name:
            if nested in tables.enums:
                out += enum_text(nested, tables.enums[nested], inner)
            else:
                out += message_text(tables, nested, use, inner)
    oneof = ""
    for row in sorted(tables.fields[name], key=lambda r: (r["oneof"], int(r["number"]))):
        if row["oneof"] != oneof:
            if oneof:
                out.append(f"{inner}}}")
            oneof = row["oneof"]
            out.append(f"{inner}oneof {oneof} {{")
        label = {"repeated": "repeated ", "optional": "optional "}.get(row["label"], "")
        extra = "  " if oneof else ""
        json_name = row["json_name"]
        option = f' [json_name = "{json_name}"]' if json_name and json_name != camel(row["field"]) else ""
        out.append(f"{inner}{extra}{label}{use(row['type'])} {row['field']} = {row['number']}{option};")
    if oneof:
        out.append(f"{inner}}}")
    return [*out, f"{indent}}}"]


def camel(name: str) -> str:
    """protoc's default JSON name."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def enum_text(name: str, values: list[dict[str, str]], indent: str) -> list[str]:
    """One enum; the zero value must come first in proto3."""
    ordered = sorted(values, key=lambda r: (int(r["number"]) != 0, int(r["number"])))
    lines = [f"{indent}  {row['value_name']} = {row['number']};" for row in ordered]
    return [f"{indent}enum {name.rpartition('.')[2]} {{", *lines, f"{indent}}}"]


def service_text(name: str, methods: list[dict[str, str]], use: object) -> list[str]:
    """One service."""
    assert callable(use)
    out = [f"service {name.rpartition('.')[2]} {{"]
    for row in methods:
        sends = "stream " if row["client_streaming"] == "yes" else ""
        answers = "stream " if row["server_streaming"] == "yes" else ""
        out.append(
            f"  rpc {row['method']}({sends}{use(row['request'])}) returns ({answers}{use(row['response'])});"
        )
    return [*out, "}"]


def compile_set() -> bytes:
    """A FileDescriptorSet of every .proto file, with the well-known types, without source info."""
    import grpc_tools
    from grpc_tools import protoc

    include = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as temp:
        out = Path(temp) / "set.binpb"
        sources = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
        wkt = [w for w in WKT_IMPORTS.values() if w.startswith("google/protobuf/")]
        args = [
            "protoc",
            f"-I{PROTO}",
            f"-I{include}",
            "--include_imports",
            f"--descriptor_set_out={out}",
            *sources,
            *wkt,
        ]
        if protoc.main(args) != 0:
            raise SystemExit("protoc failed")
        return out.read_bytes()


def write_code(target: Path) -> None:
    """.proto files -> descriptor set and the generated modules of both back ends under `target`."""
    from google.protobuf import descriptor_pb2

    raw = compile_set()
    files = descriptor_pb2.FileDescriptorSet.FromString(raw).file
    (target / "descriptors.binpb").write_bytes(raw)
    packages: dict[str, list[descriptor_pb2.FileDescriptorProto]] = defaultdict(list)
    for file in files:
        packages[file.package].append(file)
    for package, members in sorted(packages.items()):
        module = module_of(package)
        light = Light(package, members)
        (target / "light" / f"{module}.py").write_text(light.text())
        (target / "light" / f"{module}.pyi").write_text(light.stub())
        (target / "full" / f"{module}.py").write_text(full_text(package, module))


def full_text(package: str, module: str) -> str:
    """The upb module: the light one's types for the checker, upb's classes at run time."""
    return (
        f'"""Messages of {package} on upb (generated by scripts/protos.py; do not edit)."""\n\n'
        "from __future__ import annotations\n\n"
        "from typing import TYPE_CHECKING\n\n"
        "if TYPE_CHECKING:\n"
        f"    from pycontainerd.lib.api.light.{module} import *\n"
        "else:\n"
        "    from pycontainerd.lib.api.pool import load\n\n"
        f'    load(globals(), "{package}")\n'
    )


SCALARS = {
    1: ("DOUBLE", "float"),
    3: ("INT", "int"),
    4: ("UINT", "int"),
    5: ("INT", "int"),
    8: ("BOOL", "bool"),
    9: ("STRING", "str"),
    12: ("BYTES", "bytes"),
    13: ("UINT", "int"),
    14: ("INT", "int"),
}


class Light:
    """Generator of one module of the small codec, and of its stub for type checkers."""

    def __init__(self, package: str, files: list[object]) -> None:
        self.package = package
        self.enums = [e for file in files for e in file.enum_type]
        self.messages = [m for file in files for m in file.message_type]
        self.services = [s for file in files for s in file.service]
        self.imports: set[str] = set()
        self.names = sorted(
            [e.name for e in self.enums]
            + [m.name for m in self.messages]
            + [constant(s.name) for s in self.services]
        )

    def text(self) -> str:
        """What runs: a table of fields, whose classes are made when they are asked for."""
        rows, body = [], []
        for enum in self.enums:
            body += self.enum(enum, "")
        for message in self.messages:
            if self.has_inner(message):
                body += self.message(message, f"{self.package}.{message.name}", "")
            else:
                rows.append(f'        "{message.name}": {self.fields(message, "        ")},')
        for service in self.services:
            body += self.service(service)
        names = [
            *(["Message"] if any(map(self.has_inner, self.messages)) else []),
            *(["Method", "Service"] if self.services else []),
            "lazy",
        ]
        return "\n".join(
            [
                *self.head(names),
                f"__all__ = {self.names!r}",
                "",
                "__getattr__ = lazy(",
                "    globals(),",
                f'    "{self.package}",',
                "    {",
                *rows,
                "    },",
                ")",
                "",
                *body,
                "",
            ]
        )

    def stub(self) -> str:
        """What type checkers read."""
        body: list[str] = []
        for enum in self.enums:
            body += self.enum(enum, "")
        for message in self.messages:
            body += self.message_stub(message, f"{self.package}.{message.name}", "")
        body += [f"{constant(service.name)}: Service" for service in self.services]
        used = "\n".join(body)
        typing_names = [n for n in ("Mapping", "Sequence") if f" {n}[" in used]
        return "\n".join(
            [
                *([f"from collections.abc import {', '.join(typing_names)}", ""] if typing_names else []),
                *self.head(["Message", "Service"] if self.services else ["Message"])[2:],
                f"__all__ = {self.names!r}",
                "",
                *body,
                "",
            ]
        )

    def head(self, names: list[str]) -> list[str]:
        """The docstring, and imports: of what fields and methods refer to, too."""
        out = [
            f'"""Messages of {self.package} on the small codec (generated by scripts/protos.py; do not edit)."""',
            "",
            f"from pycontainerd.lib.api.codec import {', '.join(names)}",
        ]
        for message in self.messages:
            self.fields(message, "")
        for service in self.services:
            for method in service.method:
                self.annotation(method.input_type.removeprefix("."))
                self.annotation(method.output_type.removeprefix("."))
        if self.imports:
            out.append(f"from pycontainerd.lib.api.light import {', '.join(sorted(self.imports))}")
        return [*out, ""]

    @staticmethod
    def has_inner(message: object) -> bool:
        """Whether a message has messages or enums of its own; maps are none."""
        return bool(message.enum_type) or any(not n.options.map_entry for n in message.nested_type)

    def enum(self, enum: object, indent: str) -> list[str]:
        out = [f"{indent}class {enum.name}:"]
        return [*out, *(f"{indent}    {v.name} = {v.number}" for v in enum.value), ""]

    def rows(self, message: object, full: str) -> list[tuple[int, str, str, str, str, str, str]]:
        nested_maps = {f"{full}.{n.name}": n for n in message.nested_type if n.options.map_entry}
        return [self.field(f, nested_maps) for f in message.field]

    def fields(self, message: object, indent: str, full: str = "") -> str:
        """The table of a message's fields."""
        fields = self.rows(message, full or f"{self.package}.{message.name}")
        rows = "".join(f"{indent}    ({f[0]}, {f[1]!r}, {f[2]!r}, {f[3]!r}, {f[4]!r}),\n" for f in fields)
        return f"(\n{rows}{indent})" if rows else "()"

    def message(self, message: object, full: str, indent: str) -> list[str]:
        """A class that is there from the beginning."""
        inner = indent + "    "
        names = "".join(f'"{f[1]}", ' for f in self.rows(message, full))
        out = [
            f"{indent}class {message.name}(Message):",
            f"{inner}__slots__ = ({names.rstrip()})",
            f'{inner}FULL_NAME = "{full}"',
            f"{inner}FIELDS = {self.fields(message, inner, full)}",
        ]
        for enum in message.enum_type:
            out += self.enum(enum, inner)
        for nested in message.nested_type:
            if not nested.options.map_entry:
                out += self.message(nested, f"{full}.{nested.name}", inner)
        return [*out, ""]

    def message_stub(self, message: object, full: str, indent: str) -> list[str]:
        inner = indent + "    "
        fields = self.rows(message, full)
        out = [f"{indent}class {message.name}(Message):"]
        for enum in message.enum_type:
            out += self.enum(enum, inner)
        for nested in message.nested_type:
            if not nested.options.map_entry:
                out += self.message_stub(nested, f"{full}.{nested.name}", inner)
        if fields:
            out += [f"{inner}{f[1]}: {f[5]}" for f in fields]
            params = ", ".join(f"{f[1]}: {f[6]} = ..." for f in fields)
            out.append(f"{inner}def __init__(self, *, {params}) -> None: ...")
        else:
            out.append(f"{inner}def __init__(self) -> None: ...")
        return [*out, ""]

    def field(self, field: object, maps: dict[str, object]) -> tuple[int, str, str, str, str, str, str]:
        """(number, name, label, kind, type name, annotation, parameter annotation)."""
        ref = field.type_name.removeprefix(".")
        if ref in maps:
            key, value = maps[ref].field
            key_kind, key_type = SCALARS[key.type]
            if value.type == 11:
                kind, annotation = "MESSAGE", self.annotation(value.type_name.removeprefix("."))
                ref = value.type_name.removeprefix(".")
            else:
                (kind, annotation), ref = SCALARS[value.type], ""
            label = f"MAP_{key_kind}"
            return (
                field.number,
                field.name,
                label,
                kind,
                ref,
                f"dict[{key_type}, {annotation}]",
                f"Mapping[{key_type}, {annotation}]",
            )
        if field.type == 11:
            kind, annotation = "MESSAGE", self.annotation(ref)
        else:
            (kind, annotation), ref = SCALARS[field.type], ""
        if field.label == 3:
            return (
                field.number,
                field.name,
                "REPEATED",
                kind,
                ref,
                f"list[{annotation}]",
                f"Sequence[{annotation}]",
            )
        label = (
            "OPTIONAL"
            if field.proto3_optional or field.HasField("oneof_index") or kind == "MESSAGE"
            else "SINGULAR"
        )
        parameter = f"{annotation} | None" if kind == "MESSAGE" or label == "OPTIONAL" else annotation
        return field.number, field.name, label, kind, ref, annotation, parameter

    def annotation(self, ref: str) -> str:
        """The Python spelling of a message type, importing its module."""
        if ref.startswith(self.package + ".") and ref.removeprefix(self.package + ".")[0].isupper():
            return ref.removeprefix(self.package + ".")
        package = ref
        while package.rpartition(".")[2][:1].isupper():
            package = package.rpartition(".")[0]
        module = module_of(package)
        self.imports.add(module)
        return f"{module}.{ref.removeprefix(package + '.')}"

    def service(self, service: object) -> list[str]:
        out = [f"{constant(service.name)} = Service(", f'    "{self.package}.{service.name}",', "    ("]
        for method in service.method:
            request, response = (name.removeprefix(".") for name in (method.input_type, method.output_type))
            streams = f"{method.client_streaming}, {method.server_streaming}"
            out.append(f'        Method("{method.name}", "{request}", "{response}", {streams}),')
        return [*out, "    ),", ")", ""]


def constant(name: str) -> str:
    """UPPER_SNAKE of a service's short name."""
    return "".join(("_" + c if c.isupper() and i else c) for i, c in enumerate(name)).upper()


def check() -> None:
    """Regenerates into a temporary folder and compares."""
    with tempfile.TemporaryDirectory() as temp:
        target = Path(temp)
        for sub in ("light", "full"):
            (target / sub).mkdir()
        write_code(target)
        stale = [
            str(p.relative_to(target))
            for p in sorted(target.rglob("*"))
            if p.is_file()
            and (
                (API / p.relative_to(target)).read_bytes() if (API / p.relative_to(target)).exists() else b""
            )
            != p.read_bytes()
        ]
    if stale:
        raise SystemExit("stale generated files (run make protos): " + ", ".join(stale))


if __name__ == "__main__":
    {"tables": write_tables, "code": lambda: write_code(API), "check": check}[sys.argv[1]]()
