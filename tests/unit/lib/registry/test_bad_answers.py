"""Answers of registries and token servers, and files of docker's, that are not what they should be: typed errors, whatever they hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pycontainerd.lib.errdefs import ContainerdError, InvalidArgument, Unauthenticated, Unavailable
from pycontainerd.lib.registry.hosts import Options
from pycontainerd.lib.registry.resolver import Resolver

if TYPE_CHECKING:
    from pathlib import Path

    from support.fake_registry import Answer, FakeRegistry, Request

MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {},
    "layers": [],
}


def resolver(fake: FakeRegistry) -> Resolver:
    return Resolver(f"{fake.address}/a/b:v1", Options(plain_http=True))


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b'{"errors":{"a":1}}',
        b'{"errors":5}',
        b'{"errors":[5,null,"x",{"code":5,"message":[]}]}',
        b"[" * 60000,
        b"\xff\xfe",
        b'{"errors":[{"code":"\\u2028","message":"a\\nb"}]}',
    ],
)
@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_document_of_errors(fake: FakeRegistry, text: bytes, status: int) -> None:
    fake.rule = lambda request: (status, {"Content-Type": "application/json"}, text)
    with pytest.raises(ContainerdError) as caught:
        resolver(fake).resolve()
    assert "\n" not in str(caught.value)


def tokens(fake: FakeRegistry, reply: bytes) -> None:
    fake.add_document("v1", MANIFEST)

    def rule(request: Request) -> Answer | None:
        if request.path.startswith("/token"):
            return 200, {}, reply
        if "authorization" in request.headers:
            return None
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{fake.address}/token",service="s"'}, b""

    fake.rule = rule


@pytest.mark.parametrize(
    "reply",
    [
        b"{",
        b"[]",
        b'{"token":5}',
        b'{"token":"\\u00e9\\u2028"}',
        b'{"token":"a\\u0000b"}',
        b'{"token":"a\\r\\nX: y"}',
        b'{"access_token":{}}',
        b"[" * 60000,
    ],
)
def test_no_token(fake: FakeRegistry, reply: bytes) -> None:
    tokens(fake, reply)
    with pytest.raises(Unauthenticated, match=r"sent no (token|JSON)"):
        resolver(fake).resolve()


@pytest.mark.parametrize("life", ["9" * 400, '"x"', "-5", "null", "1e300", "true"])
def test_any_life_of_a_token(fake: FakeRegistry, life: str) -> None:
    tokens(fake, f'{{"token":"t","expires_in":{life}}}'.encode())
    assert resolver(fake).resolve()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"auths":[]}',
        '{"auths":{"%s":5}}',
        '{"auths":{"%s":{"auth":5}}}',
        '{"auths":{"%s":{"auth":"secret!"}}}',
        '{"auths":{"%s":{"username":5}}}',
        '{"credHelpers":{"%s":5}}',
        '{"credHelpers":5}',
        '{"credsStore":5}',
        '{"credsStore":"../x"}',
        "[" * 60000,
    ],
)
def test_a_file_of_dockers(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(text.replace("%s", fake.address))
    fake.add_document("v1", MANIFEST)
    with pytest.raises(InvalidArgument) as caught:
        resolver(fake).resolve()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("reply", ["", "[]", '{"Username":5}', '{"Secret":["secret"]}'])
def test_an_answer_of_a_credential_helper(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: str
) -> None:
    helper = tmp_path / "docker-credential-odd"
    helper.write_text(f"#!/bin/sh\ncat <<'E'\n{reply}\nE\n")
    helper.chmod(0o755)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "odd"}))
    with pytest.raises((InvalidArgument, Unavailable), match="the answer of docker-credential-odd") as caught:
        resolver(fake).resolve()
    assert "secret" not in str(caught.value)
