"""grpcio against our daemon and against the real one: the same codes, the same words."""

from __future__ import annotations

import hashlib

import grpc
import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import (
    containers_v1,
    content_v1,
    diff_v1,
    events_v1,
    health_v1,
    images_v1,
    introspection_v1,
    leases_v1,
    namespaces_v1,
    snapshots_v1,
    tasks_v1,
    types,
    version_v1,
    wkt,
)
from support.daemons import Daemon, call, can_be_compared, masked_answer

HELLO = b"hello\n"
HELLO_DIGEST = "sha256:" + hashlib.sha256(HELLO).hexdigest()
OTHER_DIGEST = "sha256:" + "0" * 64
LONG = "x" * 5000
SPEC = wkt.Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b"{}")
RUNTIME = containers_v1.Container.Runtime(name="io.containerd.runc.v2")
TARGET = types.Descriptor(media_type="application/x", digest=HELLO_DIGEST, size=6)
W = content_v1.WriteAction


def _container(**fields):
    merged = {"id": "c1", "runtime": RUNTIME, "spec": SPEC, **fields}
    return containers_v1.CreateContainerRequest(container=containers_v1.Container(**merged))


def _image(**fields):
    return images_v1.CreateImageRequest(image=images_v1.Image(**{"name": "i1", "target": TARGET, **fields}))


def _write(*requests):
    return [content_v1.WriteContentRequest(**fields) for fields in requests]


C, N, IM, L, S, T = (
    containers_v1.CONTAINERS,
    namespaces_v1.NAMESPACES,
    images_v1.IMAGES,
    leases_v1.LEASES,
    snapshots_v1.SNAPSHOTS,
    tasks_v1.TASKS,
)
B = content_v1.CONTENT
MASK = wkt.FieldMask
CALLS = [
    # service, method, request, namespace
    (C, "Get", containers_v1.GetContainerRequest(id="nope"), "default"),
    (C, "Get", containers_v1.GetContainerRequest(id="nope"), None),
    (C, "Get", containers_v1.GetContainerRequest(id="nope"), "bad..name"),
    (C, "Create", _container(id=""), "default"),
    (C, "Create", _container(id="-x"), "default"),
    (C, "Create", _container(id="x" * 77), "default"),
    (C, "Create", _container(labels={"k": LONG}), "default"),
    (C, "Create", _container(runtime=containers_v1.Container.Runtime()), "default"),
    (
        C,
        "Create",
        containers_v1.CreateContainerRequest(container=containers_v1.Container(id="c", runtime=RUNTIME)),
        "default",
    ),
    (C, "Create", _container(snapshot_key="k"), "default"),
    (C, "Create", _container(labels={"a": "b"}, image="img", extensions={"e": SPEC}), "default"),
    (C, "Create", _container(), "default"),
    (C, "Update", containers_v1.UpdateContainerRequest(container=containers_v1.Container()), "default"),
    (
        C,
        "Update",
        containers_v1.UpdateContainerRequest(container=containers_v1.Container(id="nope")),
        "default",
    ),
    (
        C,
        "Update",
        containers_v1.UpdateContainerRequest(container=containers_v1.Container(id="c1", snapshotter="s")),
        "default",
    ),
    (
        C,
        "Update",
        containers_v1.UpdateContainerRequest(container=containers_v1.Container(id="c1")),
        "default",
    ),
    (
        C,
        "Update",
        containers_v1.UpdateContainerRequest(
            container=containers_v1.Container(id="c1"), update_mask=MASK(paths=["runtime"])
        ),
        "default",
    ),
    (
        C,
        "Update",
        containers_v1.UpdateContainerRequest(
            container=containers_v1.Container(id="c1", labels={"x": "y"}),
            update_mask=MASK(paths=["labels.x", "labels.a"]),
        ),
        "default",
    ),
    (C, "List", containers_v1.ListContainersRequest(filters=["id==c1"]), "default"),
    (C, "List", containers_v1.ListContainersRequest(filters=["labels.x==y,image==img"]), "default"),
    (C, "List", containers_v1.ListContainersRequest(filters=['labels."x"~=/^y/']), "default"),
    (C, "List", containers_v1.ListContainersRequest(filters=["labels.x"]), "default"),
    (C, "List", containers_v1.ListContainersRequest(filters=["labels.x!=y"]), "default"),
    (C, "List", containers_v1.ListContainersRequest(filters=["id=c1"]), "default"),
    (C, "List", containers_v1.ListContainersRequest(filters=["id=="]), "default"),
    (C, "List", containers_v1.ListContainersRequest(filters=["id==a b"]), "default"),
    (C, "List", containers_v1.ListContainersRequest(filters=['"id']), "default"),
    (C, "List", containers_v1.ListContainersRequest(filters=["=="]), "default"),
    (C, "Create", _container(id="c2", extensions={"e": wkt.Any()}), "default"),
    (
        C,
        "Update",
        containers_v1.UpdateContainerRequest(
            container=containers_v1.Container(id="c2", extensions={"e": wkt.Any()}),
            update_mask=MASK(paths=["extensions.e"]),
        ),
        "default",
    ),
    (C, "Delete", containers_v1.DeleteContainerRequest(id="c2"), "default"),
    (C, "ListStream", containers_v1.ListContainersRequest(), "default"),
    (C, "Delete", containers_v1.DeleteContainerRequest(id="nope"), "default"),
    (C, "Delete", containers_v1.DeleteContainerRequest(id="c1"), "default"),
    (N, "Get", namespaces_v1.GetNamespaceRequest(name="nope"), None),
    (N, "Get", namespaces_v1.GetNamespaceRequest(name="a..b"), None),
    (
        N,
        "Create",
        namespaces_v1.CreateNamespaceRequest(namespace=namespaces_v1.Namespace(name="n", labels={"a": "b"})),
        "default",
    ),
    (
        N,
        "Create",
        namespaces_v1.CreateNamespaceRequest(namespace=namespaces_v1.Namespace(name="n")),
        "default",
    ),
    (
        N,
        "Create",
        namespaces_v1.CreateNamespaceRequest(namespace=namespaces_v1.Namespace(name="")),
        "default",
    ),
    (
        N,
        "Create",
        namespaces_v1.CreateNamespaceRequest(namespace=namespaces_v1.Namespace(name="m", labels={"k": LONG})),
        "default",
    ),
    (
        N,
        "Update",
        namespaces_v1.UpdateNamespaceRequest(
            namespace=namespaces_v1.Namespace(name="n", labels={"c": "d"}),
            update_mask=MASK(paths=["labels.c"]),
        ),
        "default",
    ),
    (
        N,
        "Update",
        namespaces_v1.UpdateNamespaceRequest(
            namespace=namespaces_v1.Namespace(name="n"), update_mask=MASK(paths=["name"])
        ),
        "default",
    ),
    (N, "Get", namespaces_v1.GetNamespaceRequest(name="n"), None),
    (N, "List", namespaces_v1.ListNamespacesRequest(), None),
    (N, "Delete", namespaces_v1.DeleteNamespaceRequest(name="n"), "default"),
    (N, "Delete", namespaces_v1.DeleteNamespaceRequest(name="n"), "default"),
    (IM, "Get", images_v1.GetImageRequest(name="nope"), "default"),
    (IM, "Create", _image(name=""), "default"),
    (IM, "Create", _image(target=types.Descriptor()), "default"),
    (IM, "Create", _image(target=types.Descriptor(digest="sha256:zz", size=1, media_type="x")), "default"),
    (IM, "Create", _image(target=types.Descriptor(digest="md5:00", size=1, media_type="x")), "default"),
    (IM, "Create", _image(target=types.Descriptor(digest=HELLO_DIGEST, media_type="x")), "default"),
    (IM, "Create", _image(target=types.Descriptor(digest=HELLO_DIGEST, size=1)), "default"),
    (IM, "Create", _image(), "default"),
    (IM, "Create", _image(), "default"),
    (IM, "Update", images_v1.UpdateImageRequest(image=images_v1.Image()), "default"),
    (IM, "Update", images_v1.UpdateImageRequest(image=images_v1.Image(name="nope")), "default"),
    (
        IM,
        "Update",
        images_v1.UpdateImageRequest(
            image=images_v1.Image(name="i1", target=TARGET), update_mask=MASK(paths=["name"])
        ),
        "default",
    ),
    (
        IM,
        "Update",
        images_v1.UpdateImageRequest(
            image=images_v1.Image(name="i1", target=TARGET, labels={"a": "b"}),
            update_mask=MASK(paths=["labels"]),
        ),
        "default",
    ),
    (IM, "List", images_v1.ListImagesRequest(filters=[f"target.digest=={HELLO_DIGEST}"]), "default"),
    (IM, "List", images_v1.ListImagesRequest(filters=["name~=i."]), "default"),
    (IM, "Delete", images_v1.DeleteImageRequest(name="nope"), "default"),
    (IM, "Delete", images_v1.DeleteImageRequest(name="i1"), "default"),
    (L, "Create", leases_v1.CreateRequest(id="l1", labels={"a": "b"}), "default"),
    (L, "Create", leases_v1.CreateRequest(id="l1"), "default"),
    (L, "AddResource", leases_v1.AddResourceRequest(id="nope"), "default"),
    (
        L,
        "AddResource",
        leases_v1.AddResourceRequest(id="l1", resource=leases_v1.Resource(id="x", type="content")),
        "default",
    ),
    (
        L,
        "AddResource",
        leases_v1.AddResourceRequest(id="l1", resource=leases_v1.Resource(id="x", type="snapshots")),
        "default",
    ),
    (
        L,
        "AddResource",
        leases_v1.AddResourceRequest(id="l1", resource=leases_v1.Resource(id="x", type="what")),
        "default",
    ),
    (
        L,
        "AddResource",
        leases_v1.AddResourceRequest(id="l1", resource=leases_v1.Resource(id="x", type="content/y")),
        "default",
    ),
    (
        L,
        "AddResource",
        leases_v1.AddResourceRequest(id="l1", resource=leases_v1.Resource(id=OTHER_DIGEST, type="content")),
        "default",
    ),
    (
        L,
        "AddResource",
        leases_v1.AddResourceRequest(
            id="l1", resource=leases_v1.Resource(id="k", type="snapshots/overlayfs")
        ),
        "default",
    ),
    (L, "ListResources", leases_v1.ListResourcesRequest(id="l1"), "default"),
    (L, "ListResources", leases_v1.ListResourcesRequest(id="nope"), "default"),
    (
        L,
        "DeleteResource",
        leases_v1.DeleteResourceRequest(
            id="l1", resource=leases_v1.Resource(id="k", type="snapshots/overlayfs")
        ),
        "default",
    ),
    (
        L,
        "DeleteResource",
        leases_v1.DeleteResourceRequest(id="l1", resource=leases_v1.Resource(id="k", type="snapshots/")),
        "default",
    ),
    (L, "List", leases_v1.ListRequest(filters=["id==l1"]), "default"),
    (L, "List", leases_v1.ListRequest(filters=["labels.a==b"]), "default"),
    (L, "Delete", leases_v1.DeleteRequest(id="l1", sync=True), "default"),
    (L, "Delete", leases_v1.DeleteRequest(id="l1"), "default"),
    (B, "Info", content_v1.InfoRequest(digest="x"), "default"),
    (B, "Info", content_v1.InfoRequest(digest=OTHER_DIGEST), "default"),
    (B, "Delete", content_v1.DeleteContentRequest(digest="sha256:12"), "default"),
    (B, "Delete", content_v1.DeleteContentRequest(digest=OTHER_DIGEST), "default"),
    (B, "Read", content_v1.ReadContentRequest(digest="x"), "default"),
    (B, "Read", content_v1.ReadContentRequest(digest=OTHER_DIGEST), "default"),
    (B, "Status", content_v1.StatusRequest(ref="nope"), "default"),
    (B, "Abort", content_v1.AbortRequest(ref="nope"), "default"),
    (B, "Write", _write({"action": W.STAT}), "default"),
    (B, "Write", _write({"action": W.WRITE, "ref": "r1", "data": b"hel"}), "default"),
    (B, "ListStatuses", content_v1.ListStatusesRequest(), "default"),
    (B, "ListStatuses", content_v1.ListStatusesRequest(filters=["ref==other"]), "default"),
    (B, "Status", content_v1.StatusRequest(ref="r1"), "default"),
    (B, "Write", _write({"action": W.STAT, "ref": "r1"}), "default"),
    (B, "Write", _write({"action": W.WRITE, "ref": "r1", "offset": 2, "data": b"lo"}), "default"),
    (
        B,
        "Write",
        _write(
            {
                "action": W.COMMIT,
                "ref": "r1",
                "offset": 3,
                "data": b"lo\n",
                "expected": OTHER_DIGEST,
                "total": 6,
            }
        ),
        "default",
    ),
    (B, "Write", _write({"action": W.COMMIT, "ref": "r1", "offset": 6, "total": 7}), "default"),
    (B, "Write", _write({"action": W.WRITE, "ref": "r1", "data": b"again"}), "default"),
    (
        B,
        "Write",
        _write(
            {"action": W.WRITE, "ref": "r2", "data": HELLO},
            {
                "action": W.COMMIT,
                "offset": 6,
                "total": 6,
                "expected": HELLO_DIGEST,
                "labels": {"containerd.io/gc.root": "1"},
            },
        ),
        "default",
    ),
    (B, "Write", _write({"action": W.STAT, "ref": "r3", "expected": HELLO_DIGEST}), "default"),
    (
        B,
        "Write",
        _write({"action": W.STAT, "ref": "r4"}, {"action": W.COMMIT, "expected": HELLO_DIGEST}),
        "default",
    ),
    (
        B,
        "Write",
        _write(
            {"action": W.STAT, "ref": "r5", "expected": HELLO_DIGEST, "total": 6},
            {"action": W.COMMIT, "offset": 6, "expected": HELLO_DIGEST, "total": 6},
        ),
        "other",
    ),
    (B, "Info", content_v1.InfoRequest(digest=HELLO_DIGEST), "other"),
    (B, "Info", content_v1.InfoRequest(digest=HELLO_DIGEST), "third"),
    (B, "Read", content_v1.ReadContentRequest(digest=HELLO_DIGEST, offset=2, size=3), "default"),
    (B, "Read", content_v1.ReadContentRequest(digest=HELLO_DIGEST, offset=-5, size=300), "default"),
    (B, "Read", content_v1.ReadContentRequest(digest=HELLO_DIGEST, offset=6), "default"),
    (B, "Read", content_v1.ReadContentRequest(digest=HELLO_DIGEST, offset=7), "default"),
    # What has been read whole is kept: ranges of that, and who may see it, are as before.
    (B, "Read", content_v1.ReadContentRequest(digest=HELLO_DIGEST, offset=2, size=3), "default"),
    (B, "Read", content_v1.ReadContentRequest(digest=HELLO_DIGEST, offset=-5, size=300), "default"),
    (B, "Read", content_v1.ReadContentRequest(digest=HELLO_DIGEST), "another"),
    (B, "Update", content_v1.UpdateRequest(info=content_v1.Info(digest="x")), "default"),
    (
        B,
        "Update",
        content_v1.UpdateRequest(info=content_v1.Info(digest=HELLO_DIGEST), update_mask=MASK(paths=["size"])),
        "default",
    ),
    (
        B,
        "Update",
        content_v1.UpdateRequest(
            info=content_v1.Info(digest=HELLO_DIGEST, labels={"z": "y"}), update_mask=MASK(paths=["labels.z"])
        ),
        "default",
    ),
    (
        B,
        "Update",
        content_v1.UpdateRequest(
            info=content_v1.Info(digest=HELLO_DIGEST, labels={"z": LONG}),
            update_mask=MASK(paths=["labels.z"]),
        ),
        "default",
    ),
    (B, "List", content_v1.ListContentRequest(filters=["labels.z==y"]), "default"),
    (B, "List", content_v1.ListContentRequest(filters=["labels.z=y"]), "default"),
    (B, "Write", _write({"action": W.WRITE, "ref": "r1", "offset": -1, "data": b"x"}), "default"),
    (B, "Write", _write({"action": W.STAT, "ref": "r1", "total": 2}, {"action": 9, "data": b"x"}), "default"),
    (B, "List", content_v1.ListContentRequest(filters=["labels", "labels.z~=("]), "default"),
    (B, "Abort", content_v1.AbortRequest(ref="r1"), "default"),
    (S, "Prepare", snapshots_v1.PrepareSnapshotRequest(key="k"), "default"),
    (S, "Prepare", snapshots_v1.PrepareSnapshotRequest(snapshotter="nope", key="k"), "default"),
    (
        S,
        "Prepare",
        snapshots_v1.PrepareSnapshotRequest(snapshotter="overlayfs", key="k", labels={"k": LONG}),
        "default",
    ),
    (
        S,
        "Prepare",
        snapshots_v1.PrepareSnapshotRequest(
            snapshotter="overlayfs", key="k", labels={"containerd.io/gc.root": "1"}
        ),
        "default",
    ),
    (S, "Prepare", snapshots_v1.PrepareSnapshotRequest(snapshotter="overlayfs", key="k"), "default"),
    (
        S,
        "Prepare",
        snapshots_v1.PrepareSnapshotRequest(snapshotter="overlayfs", key="k2", parent="k"),
        "default",
    ),
    (
        S,
        "Prepare",
        snapshots_v1.PrepareSnapshotRequest(snapshotter="overlayfs", key="k2", parent="nope"),
        "default",
    ),
    (
        S,
        "Commit",
        snapshots_v1.CommitSnapshotRequest(snapshotter="overlayfs", name="c", key="nope"),
        "default",
    ),
    (
        S,
        "Commit",
        snapshots_v1.CommitSnapshotRequest(
            snapshotter="overlayfs", name="c", key="k", labels={"containerd.io/gc.root": "1"}
        ),
        "default",
    ),
    (
        S,
        "Prepare",
        snapshots_v1.PrepareSnapshotRequest(
            snapshotter="overlayfs", key="child", parent="c", labels={"containerd.io/gc.root": "1"}
        ),
        "default",
    ),
    (
        S,
        "Commit",
        snapshots_v1.CommitSnapshotRequest(snapshotter="overlayfs", name="c", key="child"),
        "default",
    ),
    (
        S,
        "View",
        snapshots_v1.ViewSnapshotRequest(
            snapshotter="overlayfs", key="view", parent="c", labels={"containerd.io/gc.root": "1"}
        ),
        "default",
    ),
    (
        S,
        "Commit",
        snapshots_v1.CommitSnapshotRequest(snapshotter="overlayfs", name="cv", key="view"),
        "default",
    ),
    (S, "Mounts", snapshots_v1.MountsRequest(snapshotter="overlayfs", key="c"), "default"),
    (S, "Mounts", snapshots_v1.MountsRequest(snapshotter="overlayfs", key="nope"), "default"),
    (S, "Mounts", snapshots_v1.MountsRequest(snapshotter="overlayfs", key="child"), "default"),
    (S, "Stat", snapshots_v1.StatSnapshotRequest(snapshotter="overlayfs", key="child"), "default"),
    (S, "Stat", snapshots_v1.StatSnapshotRequest(snapshotter="overlayfs", key="nope"), "default"),
    (
        S,
        "Update",
        snapshots_v1.UpdateSnapshotRequest(snapshotter="overlayfs", info=snapshots_v1.Info(name="nope")),
        "default",
    ),
    (
        S,
        "Update",
        snapshots_v1.UpdateSnapshotRequest(
            snapshotter="overlayfs",
            info=snapshots_v1.Info(name="child", labels={"a": "b"}),
            update_mask=MASK(paths=["labels.a"]),
        ),
        "default",
    ),
    (
        S,
        "Update",
        snapshots_v1.UpdateSnapshotRequest(
            snapshotter="overlayfs", info=snapshots_v1.Info(name="child"), update_mask=MASK(paths=["kind"])
        ),
        "default",
    ),
    (
        S,
        "List",
        snapshots_v1.ListSnapshotsRequest(snapshotter="overlayfs", filters=["kind==committed", "parent==c"]),
        "default",
    ),
    (S, "Usage", snapshots_v1.UsageRequest(snapshotter="overlayfs", key="c"), "default"),
    (S, "Cleanup", snapshots_v1.CleanupRequest(snapshotter="nope"), "default"),
    (S, "Remove", snapshots_v1.RemoveSnapshotRequest(snapshotter="overlayfs", key="c"), "default"),
    (S, "Remove", snapshots_v1.RemoveSnapshotRequest(snapshotter="overlayfs", key="child"), "default"),
    (S, "Remove", snapshots_v1.RemoveSnapshotRequest(snapshotter="overlayfs", key="child"), "default"),
    (T, "Get", tasks_v1.GetRequest(container_id="nope"), "default"),
    (T, "Create", tasks_v1.CreateTaskRequest(container_id="nope"), "default"),
    (T, "Start", tasks_v1.StartRequest(container_id="nope"), "default"),
    (T, "Delete", tasks_v1.DeleteTaskRequest(container_id="nope"), "default"),
    (T, "Exec", tasks_v1.ExecProcessRequest(container_id="nope"), "default"),
    (T, "List", tasks_v1.ListTasksRequest(), "default"),
    (T, "List", tasks_v1.ListTasksRequest(), None),
    (T, "Metrics", tasks_v1.MetricsRequest(), "default"),
    (T, "Wait", tasks_v1.WaitRequest(container_id="nope"), "default"),
    (
        diff_v1.DIFF,
        "Apply",
        diff_v1.ApplyRequest(diff=types.Descriptor(media_type="nope", digest=HELLO_DIGEST)),
        "default",
    ),
    (events_v1.EVENTS, "Publish", events_v1.PublishRequest(topic="x"), "default"),
    (events_v1.EVENTS, "Publish", events_v1.PublishRequest(topic=""), "default"),
    (events_v1.EVENTS, "Publish", events_v1.PublishRequest(topic="/"), "default"),
    (events_v1.EVENTS, "Publish", events_v1.PublishRequest(topic="/a//b"), "default"),
    (events_v1.EVENTS, "Publish", events_v1.PublishRequest(topic="/a/b"), None),
    (events_v1.EVENTS, "Forward", events_v1.ForwardRequest(envelope=types.Envelope(topic="/a")), None),
    (
        events_v1.EVENTS,
        "Forward",
        events_v1.ForwardRequest(envelope=types.Envelope(namespace="a", topic="a")),
        None,
    ),
    (events_v1.EVENTS, "Subscribe", events_v1.SubscribeRequest(filters=["=="]), None),
    (health_v1.HEALTH, "Check", health_v1.HealthCheckRequest(), None),
    (health_v1.HEALTH, "Check", health_v1.HealthCheckRequest(service="x"), None),
    (
        introspection_v1.INTROSPECTION,
        "Plugins",
        introspection_v1.PluginsRequest(filters=["id==overlayfs"]),
        None,
    ),
    (
        introspection_v1.INTROSPECTION,
        "Plugins",
        introspection_v1.PluginsRequest(filters=["id=overlayfs"]),
        None,
    ),
]


@pytest.fixture(scope="module")
def daemons(tmp_path_factory):
    import tempfile
    from pathlib import Path

    folder = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
    with Daemon(folder / "r", real=True) as real, Daemon(folder / "o", real=False) as ours:
        yield real.start(), ours.start()
    remove_tree(str(folder))


def test_every_call_is_answered_as_by_the_real_daemon(daemons):
    real, ours = daemons
    differences = []
    with real.channel() as real_channel, ours.channel() as our_channel:
        for service, method, request, namespace in CALLS:
            if not can_be_compared(service, method, request):
                continue
            expected = call(real_channel, service, method, request, namespace=namespace)
            actual = call(our_channel, service, method, request, namespace=namespace)
            if masked_answer(real, expected) != masked_answer(ours, actual):
                shown = str(request)[:300]
                differences.append(
                    f"{service.name}.{method}({shown!r}, {namespace})\n  real {masked_answer(real, expected)}\n  ours {masked_answer(ours, actual)}"
                )
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize(
    "path",
    ["/containerd.services.nope.v1.Nope/Get", "/containerd.services.images.v1.Images/Nope"],
)
def test_unknown_methods_are_unimplemented_in_the_same_words(daemons, path):
    answers = []
    for daemon in daemons:
        with daemon.channel() as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(path)(b"", timeout=10)
        answers.append((caught.value.code(), caught.value.details()))
    assert answers[0] == answers[1]


def test_a_message_over_16_mib_is_refused_in_the_same_words(daemons):
    request = content_v1.WriteContentRequest(action=W.WRITE, ref="big", data=b"\0" * (16 << 20))
    answers = []
    for daemon in daemons:
        with daemon.channel() as channel:
            answers.append(call(channel, B, "Write", [request]))
    assert answers[0] == answers[1]
    assert answers[1][0] == "RESOURCE_EXHAUSTED"


def test_plugins_export_what_the_real_daemons_do(daemons):
    told = []
    for daemon in daemons:
        with daemon.channel() as channel:
            reply = call(
                channel, introspection_v1.INTROSPECTION, "Plugins", introspection_v1.PluginsRequest()
            )
        told.append({(p.type, p.id.replace("bolt", "sqlite")): dict(p.exports) for p in reply[2].plugins})
    real, ours = told
    paths = ("root", "path")
    for plugin in real.keys() & ours.keys():
        assert ours[plugin].keys() >= real[plugin].keys(), plugin
        for name, value in real[plugin].items():
            if name in paths:
                assert ours[plugin][name].startswith(str(daemons[1].folder))
            else:
                assert ours[plugin][name] == value, (plugin, name)
    scheduler = ("io.containerd.gc.v1", "scheduler")
    assert real[scheduler] == ours[scheduler]
    assert "root" in ours["io.containerd.snapshotter.v1", "native"], "since containerd 1.7"


def test_version_is_our_own(daemons):
    with daemons[1].channel() as channel:
        status, _, response = call(channel, version_v1.VERSION, "Version", wkt.Empty(), namespace=None)
    assert (status, response.version) == ("OK", "0.1.0")


def test_a_server_says_who_it_is_as_the_real_one_does(daemons):
    told = []
    for daemon in daemons:
        with daemon.channel() as channel:
            answers = [
                call(channel, introspection_v1.INTROSPECTION, "Server", wkt.Empty(), namespace=None)
                for _ in range(2)
            ]
        assert answers[0] == answers[1]
        answer = answers[0][2]
        told.append(
            (
                answers[0][:2],
                len(answer.uuid),
                answer.pid == daemon.pid,
                answer.pidns > 0,
                list(answer.deprecations),
            )
        )
    assert told[1][:2] == told[0][:2]
    assert told[1] == (("OK", ""), 36, True, True, [])


def test_more_than_a_hundred_streams_share_one_connection(daemons):
    with daemons[1].channel() as channel:
        subscribe = channel.unary_stream(
            "/containerd.services.events.v1.Events/Subscribe",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=types.Envelope.FromString,
        )
        streams = [subscribe(events_v1.SubscribeRequest(filters=['topic=="/test/many"'])) for _ in range(150)]
        for stream in streams:
            stream.initial_metadata  # noqa: B018 -- the call is under way
        import time

        time.sleep(1)
        publish = events_v1.PublishRequest(topic="/test/many", event=wkt.Any(type_url="x"))
        assert call(channel, events_v1.EVENTS, "Publish", publish)[0] == "OK"
        assert all(next(stream).topic == "/test/many" for stream in streams)
        for stream in streams:
            stream.cancel()
