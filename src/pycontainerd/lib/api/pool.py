"""The upb back end: message classes of the project's own descriptor pool.

The pool is our own, so nothing depends on how other packages' generated code was made.
Runs in: the daemon and tests only
"""

from __future__ import annotations

import importlib.resources
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from pycontainerd.lib.api.codec import Method, Service


@cache
def _pool() -> tuple[descriptor_pool.DescriptorPool, dict[str, list[str]]]:
    """The pool, and the file names of each package."""
    raw = importlib.resources.files("pycontainerd.lib.api").joinpath("descriptors.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    packages: dict[str, list[str]] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(raw).file:
        pool.AddSerializedFile(file.SerializeToString())
        packages.setdefault(file.package, []).append(file.name)
    return pool, packages


def load(module: dict[str, Any], package: str) -> None:
    """Puts a package's message classes, enum namespaces and services into a module's globals."""
    pool, packages = _pool()
    for name in packages[package]:
        file = pool.FindFileByName(name)
        for message in file.message_types_by_name.values():
            module[message.name] = message_factory.GetMessageClass(message)
        for enum in file.enum_types_by_name.values():
            module[enum.name] = type(enum.name, (), {value.name: value.number for value in enum.values})
        for service in file.services_by_name.values():
            module[_constant(service.name)] = _service(service)


def _service(service: Any) -> Service:
    methods = tuple(
        Method(
            method.name,
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
            method.client_streaming,
            method.server_streaming,
        )
        for method in service.methods
    )
    return Service(service.full_name, methods)


def _constant(name: str) -> str:
    return "".join(("_" + c if c.isupper() and i else c) for i, c in enumerate(name)).upper()
