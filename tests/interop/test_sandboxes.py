"""The sandbox store, byte by byte as containerd 2's client speaks it: ours, and the real one where it has one (since 1.7)."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import content_v1, namespaces_v1, sandbox_v1, types, wkt
from support.daemons import Daemon, call
from support.programs import containerd_since_1_7, has_peer

S = sandbox_v1.STORE
SPEC = wkt.Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b"{}")
OPTIONS = wkt.Any(type_url="containerd.runc.v1.Options", value=b"\x08\x01")


KINDS = ["ours", "real"] if has_peer("containerd") and containerd_since_1_7() else ["ours"]
# 1.7 keeps sandboxes beside the namespaces, where neither a namespace's end nor a collection meets them.
ONLY_OURS = pytest.mark.parametrize("daemon", ["ours"], indirect=True)


@pytest.fixture(scope="module", params=KINDS)
def daemon(request):
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    with Daemon(folder / "d", real=request.param == "real") as daemon:
        yield daemon.start()
    remove_tree(str(folder))


@pytest.fixture
def channel(daemon):
    with daemon.channel() as channel:
        yield channel


def sandbox(**fields) -> types.Sandbox:
    given = {
        "sandbox_id": "s1",
        "runtime": types.Sandbox.Runtime(name="io.containerd.runc.v2", options=OPTIONS),
        "spec": SPEC,
        "labels": {"a": "b"},
        "extensions": {"e": OPTIONS},
        "sandboxer": "shim",
    }
    return types.Sandbox(**{**given, **fields})


def create(channel, record, **keywords):
    return call(channel, S, "Create", sandbox_v1.StoreCreateRequest(sandbox=record), **keywords)


def update(channel, record, *fields):
    request = sandbox_v1.StoreUpdateRequest(sandbox=record, fields=fields)
    return call(channel, S, "Update", request)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_comes_back_as_it_was_given_over_a_restart(kind):
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    with Daemon(folder / "d", real=kind == "real") as daemon:
        with daemon.start().channel() as channel:
            code, text, answer = create(channel, sandbox(sandbox_id="whole"))
        assert (code, text) == ("OK", "")
        assert answer.sandbox.created_at.seconds > 0
        daemon.stop()
        with daemon.start().channel() as channel:
            request = sandbox_v1.StoreGetRequest(sandbox_id="whole")
            assert call(channel, S, "Get", request)[2].sandbox == answer.sandbox
            assert call(channel, S, "Delete", sandbox_v1.StoreDeleteRequest(sandbox_id="whole"))[0] == "OK"
            gone = call(channel, S, "Get", request)
        assert gone[:2] == ("NOT_FOUND", 'bucket "whole" not found: not found')
    remove_tree(str(folder))


def test_updates_by_field(channel):
    assert create(channel, sandbox(sandbox_id="up"))[0] == "OK"
    wanted = sandbox(sandbox_id="up", labels={"c": "d"}, spec=OPTIONS)
    found = update(channel, wanted, "labels.c")[2].sandbox
    assert (dict(found.labels), found.spec) == ({"a": "b", "c": "d"}, SPEC)
    found = update(channel, wanted, "spec", "labels")[2].sandbox
    assert (dict(found.labels), found.spec) == ({"c": "d"}, OPTIONS)
    found = update(channel, sandbox(sandbox_id="up", extensions={}), "extensions.e")[2].sandbox
    assert not any(extension.type_url for extension in found.extensions.values())  # 1.7 keeps an empty one
    other = types.Sandbox.Runtime(name="other.v1")
    assert update(channel, sandbox(sandbox_id="up", runtime=other))[:2] == (
        "INVALID_ARGUMENT",
        "sandbox.Runtime.Name field is immutable: invalid argument",
    )
    assert update(channel, sandbox(sandbox_id="up", runtime=other), "runtime")[0] == "OK"
    assert update(channel, wanted, "sandboxer")[:2] == (
        "INVALID_ARGUMENT",
        'cannot update "sandboxer" field on sandbox "up": invalid argument',
    )
    assert update(channel, sandbox(sandbox_id="none"), "labels")[0] == "NOT_FOUND"


def test_filters(channel):
    for number in range(3):
        assert create(channel, sandbox(sandbox_id=f"f{number}", labels={"n": str(number)}))[0] == "OK"

    def listed(*filters: str) -> list[str]:
        request = sandbox_v1.StoreListRequest(filters=filters)
        return [one.sandbox_id for one in call(channel, S, "List", request)[2].list]

    assert listed("id==f1") == ["f1"]
    assert listed("labels.n==2", "id==f0") == ["f0", "f2"]
    assert set(listed()) >= {"f0", "f1", "f2"}
    code, text, _ = call(channel, S, "List", sandbox_v1.StoreListRequest(filters=["=="]))
    assert code == "INVALID_ARGUMENT"
    assert text.endswith(": invalid argument")


@pytest.mark.parametrize("id", ["", "-x", "x" * 77, "a b"])
def test_bad_ids_are_refused(channel, id):
    code, text, _ = create(channel, sandbox(sandbox_id=id))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("failed to validate sandbox: invalid sandbox ID: ")


def test_ids_are_taken_once_in_a_namespace(channel):
    assert create(channel, sandbox(sandbox_id="twice"))[0] == "OK"
    assert create(channel, sandbox(sandbox_id="twice"))[:2] == (
        "ALREADY_EXISTS",
        'write error: sandbox bucket "twice" already exists: already exists',
    )
    assert create(channel, sandbox(sandbox_id="twice"), namespace="other")[0] == "OK"
    assert create(channel, sandbox(sandbox_id="x"), namespace=None)[0] == "FAILED_PRECONDITION"


@ONLY_OURS
def test_sandboxes_end_with_their_namespace(channel):
    assert create(channel, sandbox(sandbox_id="in"), namespace="ends")[0] == "OK"
    code, _, _ = call(
        channel, namespaces_v1.NAMESPACES, "Delete", namespaces_v1.DeleteNamespaceRequest(name="ends")
    )
    assert code == "OK"
    request = sandbox_v1.StoreGetRequest(sandbox_id="in")
    assert call(channel, S, "Get", request, namespace="ends")[0] == "NOT_FOUND"


@ONLY_OURS
def test_a_sandbox_keeps_what_its_labels_refer_to(daemon, channel):
    data = b"kept by a sandbox"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    record = sandbox(sandbox_id="keeper", labels={"containerd.io/gc.ref.content": digest})
    assert create(channel, record)[0] == "OK"
    request = content_v1.WriteContentRequest(
        action=content_v1.WriteAction.COMMIT, ref="k", data=data, total=len(data), expected=digest
    )
    assert call(channel, content_v1.CONTENT, "Write", [request])[0] == "OK"
    info = content_v1.InfoRequest(digest=digest)

    def collect() -> None:
        daemon.ctr("leases", "create", "--id", "sync")
        assert daemon.ctr("leases", "delete", "--sync", "sync").returncode == 0

    collect()
    assert call(channel, content_v1.CONTENT, "Info", info)[0] == "OK"
    call(channel, S, "Delete", sandbox_v1.StoreDeleteRequest(sandbox_id="keeper"))
    collect()
    assert call(channel, content_v1.CONTENT, "Info", info)[0] == "NOT_FOUND"
