"""Registries behind a proxy of the environment: Debian's ctr and ours, each on both daemons, ask the same in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import certificates, images
from support.fake_registry import fake_registry
from support.forward_proxy import forward_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.forward_proxy import ForwardProxy
    from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(60)]

NAME = "registry.test/library/busybox:latest"
PROGRAMS = ("ctr", "pyctr")


@pytest.fixture(scope="module", params=["real", "our"])
def stack(request: pytest.FixtureRequest) -> Stack:
    return request.getfixturevalue(f"{request.param}_stack")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry's address, which a proxy knows as registry.test."""
    folder = tmp_path_factory.mktemp("proxied")
    with images.registry(folder / "registry") as address:
        images.push(images.build_layout(folder / "layout"), f"{address}/library/busybox:latest")
        yield address


@pytest.fixture
def proxy(host: str) -> Iterator[ForwardProxy]:
    with forward_proxy() as made:
        made.names.update({"registry.test": host, "registry.test:5000": host})
        yield made


def pull(stack: Stack, program: str, environment: dict[str, str], *words: str):
    before = stack.environment
    stack.environment = {**before, **environment}
    try:
        return stack.run(program, "-n", "proxied", "image", "pull", *words, check=False)
    finally:
        stack.environment = before


def last_line(done) -> str:
    return done.stderr.strip().rpartition("\n")[2]


def in_turn(stack: Stack, proxy: ForwardProxy, environment: dict[str, str], *words: str) -> list[list[str]]:
    """What each program, which must succeed, has asked the proxy for; the image is removed again."""
    asked = []
    for program in PROGRAMS:
        proxy.requests.clear()
        done = pull(stack, program, environment, *words)
        assert done.returncode == 0, done.stderr
        asked.append(sorted(set(proxy.requests)))
        stack.ctr("-n", "proxied", "image", "rm", "--sync", words[-1])
    return asked


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize("prefix", ["http://", ""])
def test_plain_http_by_name(stack: Stack, proxy: ForwardProxy, name: str, prefix: str) -> None:
    real, ours = in_turn(stack, proxy, {name: f"{prefix}{proxy.address}"}, "--plain-http", NAME)
    assert ours == real
    assert "HEAD http://registry.test/v2/library/busybox/manifests/latest" in ours


def test_a_port_is_part_of_the_name(stack: Stack, proxy: ForwardProxy) -> None:
    ref = "registry.test:5000/library/busybox:latest"
    real, ours = in_turn(stack, proxy, {"HTTP_PROXY": proxy.address}, "--plain-http", ref)
    assert ours == real
    assert "HEAD http://registry.test:5000/v2/library/busybox/manifests/latest" in ours


def test_a_login_for_the_proxy(stack: Stack, proxy: ForwardProxy) -> None:
    proxy.login = "me:p@ss"
    environment = {"HTTP_PROXY": f"http://me:p%40ss@{proxy.address}"}
    real, ours = in_turn(stack, proxy, environment, "--plain-http", NAME)
    assert ours == real
    assert ours


def test_this_machine_is_asked_directly(stack: Stack, proxy: ForwardProxy, host: str) -> None:
    ref = f"{host}/library/busybox:latest"
    assert in_turn(stack, proxy, {"HTTP_PROXY": proxy.address}, "--plain-http", ref) == [[], []]


@pytest.mark.parametrize(("name", "flags"), [("HTTP_PROXY", ["--plain-http"]), ("HTTPS_PROXY", [])])
def test_a_proxy_that_is_not_there(stack: Stack, name: str, flags: list[str]) -> None:
    real, ours = (pull(stack, program, {name: "http://127.0.0.1:1"}, *flags, NAME) for program in PROGRAMS)
    assert (ours.returncode, last_line(ours)) == (real.returncode, last_line(real))
    assert last_line(ours).endswith("proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused")


def test_a_proxy_that_wants_a_login(stack: Stack, proxy: ForwardProxy) -> None:
    proxy.login = "me:secret"
    environment = {"HTTPS_PROXY": f"http://me:wrong@{proxy.address}"}
    real, ours = (pull(stack, program, environment, NAME) for program in PROGRAMS)
    assert (ours.returncode, last_line(ours)) == (real.returncode, last_line(real))
    assert last_line(ours).endswith("Proxy Authentication Required")
    assert "wrong" not in ours.stderr


def test_tls_through_a_tunnel(our_stack: Stack, proxy: ForwardProxy, tmp_path: Path) -> None:
    """The certificate is for the address that the name stands for: only who goes on without looking gets there."""
    keys = certificates.make(tmp_path)
    with fake_registry(certificates.server_context(keys)) as fake:
        kind = "application/vnd.oci.image.manifest.v1+json"
        config = {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": fake.add_blob(b"{}"),
            "size": 2,
        }
        document = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}
        digest, _ = fake.add_document("v1", document)
        proxy.names["registry.test:443"] = fake.address
        words = ["content", "fetch", "--skip-verify", "registry.test/a/b:v1"]
        for program in PROGRAMS:
            proxy.requests.clear()
            before = our_stack.environment
            our_stack.environment = {**before, "HTTPS_PROXY": proxy.address}
            try:
                done = our_stack.run(program, "-n", "tunnel", *words, check=False)
                refused = our_stack.run(program, "-n", "tunnel", *words[:2], words[3], check=False)
            finally:
                our_stack.environment = before
            assert done.returncode == 0, done.stderr
            assert set(proxy.requests) == {"CONNECT registry.test:443"}
            assert digest in our_stack.ctr("-n", "tunnel", "content", "ls", "-q").stdout
            assert refused.returncode == 1
            assert "tls: " in last_line(refused) or "x509: " in last_line(refused)
            our_stack.ctr("-n", "tunnel", "image", "rm", "--sync", words[3])
