"""Calls that can't be meant, against our daemon and the real one: the same codes and words, and nothing changed by them."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import (
    containers_v1,
    content_v1,
    diff_v1,
    events_v1,
    images_v1,
    introspection_v1,
    leases_v1,
    namespaces_v1,
    snapshots_v1,
    tasks_v1,
    types,
    wkt,
)
from support.daemons import Daemon, call, can_be_compared, masked_answer

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]

HELLO = b"hello\n"
HELLO_DIGEST = "sha256:" + hashlib.sha256(HELLO).hexdigest()
OTHER_DIGEST = "sha256:" + "0" * 64
BIG = {"key-of-the-label": "x" * 5000}
ROOTED = {"containerd.io/gc.root": "1"}
SPEC = wkt.Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b"{}")
BAD_DIGESTS = ("", "x", "sha256:", "sha256:12", "md5:" + "0" * 32, "SHA256:" + "0" * 64, "sha256:" + "g" * 64)
BAD_IDS = ("", "-x", "x-", "a//b", "a b", "ä", "x" * 77, "..", "a..b", "a/b")
BAD_FILTERS = ("=", "==", "id=", "id==", "id=x", "id===x", "id==a b", '"id', "id!", ",", "id==a,", "labels.", "labels.a=b", "id==a,,id==b", "~=", "é==x")  # fmt: skip
W = content_v1.WriteAction
OVERLAY = "overlayfs"


class Call(NamedTuple):
    """A call that must fail; `lease` is the header's."""

    service: object
    method: str
    request: object
    namespace: str | None = "default"
    lease: str = ""


def container(**fields) -> containers_v1.Container:
    given = {
        "id": "new",
        "runtime": containers_v1.Container.Runtime(name="io.containerd.runc.v2"),
        "spec": SPEC,
    }
    return containers_v1.Container(**{**given, **fields})


def descriptor(**fields) -> types.Descriptor:
    return types.Descriptor(**{"media_type": "application/x", "digest": HELLO_DIGEST, "size": 6, **fields})


def bad_containers():
    service, v1 = containers_v1.CONTAINERS, containers_v1

    def create(**fields):
        return Call(service, "Create", v1.CreateContainerRequest(container=container(**fields)))

    def update(*paths, **fields):
        mask = wkt.FieldMask(paths=paths) if paths else None
        given = {"id": "c1", "snapshotter": OVERLAY, "snapshot_key": "active", **fields}
        request = v1.UpdateContainerRequest(container=container(**given), update_mask=mask)
        return Call(service, "Update", request)

    yield from (create(id=id) for id in BAD_IDS)
    yield from (Call(service, "Get", v1.GetContainerRequest(id=id)) for id in BAD_IDS)
    yield from (Call(service, "Delete", v1.DeleteContainerRequest(id=id)) for id in BAD_IDS)
    yield from (update(id=id) for id in BAD_IDS)
    yield from (create(**fields) for fields in (
        {"id": "c1"}, {"labels": BIG}, {"runtime": None}, {"spec": None}, {"snapshot_key": "active"},
        {"extensions": {"": SPEC}},
    ))  # fmt: skip
    yield from (update(path) for path in (
        "id", "created_at", "updated_at", "runtime", "runtime.name", "nope", "", "labels.", "Labels", "spec.x", "extensions.",
    ) if path not in ("labels.", "extensions."))  # fmt: skip
    yield from (
        update("labels", labels=BIG),
        update("labels.key-of-the-label", labels=BIG),
        update(labels=BIG),
    )
    yield update("spec", spec=None)
    yield from (
        update(snapshotter="other"),
        update(runtime=v1.Container.Runtime(name="other")),
        update("labels.a", "nope"),
    )
    for text in BAD_FILTERS:
        yield Call(service, "List", v1.ListContainersRequest(filters=[text]))
        yield Call(service, "ListStream", v1.ListContainersRequest(filters=[text]))


def bad_content():
    service, v1 = content_v1.CONTENT, content_v1
    for digest in (*BAD_DIGESTS, OTHER_DIGEST):
        yield Call(service, "Info", v1.InfoRequest(digest=digest))
        yield Call(service, "Delete", v1.DeleteContentRequest(digest=digest))
        yield Call(service, "Read", v1.ReadContentRequest(digest=digest))
        yield Call(service, "Update", v1.UpdateRequest(info=v1.Info(digest=digest)))
    for ref in ("", "unknown", "a/../b"):
        yield Call(service, "Status", v1.StatusRequest(ref=ref))
        yield Call(service, "Abort", v1.AbortRequest(ref=ref))
    yield Call(service, "Read", v1.ReadContentRequest(digest=HELLO_DIGEST, offset=7))
    yield Call(service, "Read", v1.ReadContentRequest(digest=HELLO_DIGEST, offset=1 << 62, size=1))
    for path in ("digest", "size", "created_at", "updated_at", "nope", "", "Labels"):
        request = v1.UpdateRequest(
            info=v1.Info(digest=HELLO_DIGEST, size=7), update_mask=wkt.FieldMask(paths=[path])
        )
        yield Call(service, "Update", request)
    for paths in (("labels",), ("labels.key-of-the-label",), ()):
        info = v1.Info(digest=HELLO_DIGEST, labels=BIG)
        yield Call(service, "Update", v1.UpdateRequest(info=info, update_mask=wkt.FieldMask(paths=paths)))
    for text in BAD_FILTERS:
        yield Call(service, "List", v1.ListContentRequest(filters=[text]))
        yield Call(service, "ListStatuses", v1.ListStatusesRequest(filters=[text]))
    yield from bad_writes()


def bad_writes():
    def write(*requests, **keywords):
        stream = [content_v1.WriteContentRequest(**fields) for fields in requests]
        return Call(content_v1.CONTENT, "Write", stream, **keywords)

    held = {"ref": "held", "offset": 3}  # the ingest that is there, of three bytes
    yield from (
        write(),
        write({"action": W.STAT}),
        write({"action": W.WRITE, "data": HELLO}),
        write({"action": W.COMMIT}),
    )
    yield write({"action": W.STAT, "ref": "new"}, lease="unknown")
    yield write({"action": W.WRITE, "ref": "new", "data": HELLO}, lease="unknown")
    yield from (
        write({**held, "action": W.WRITE, "offset": offset, "data": b"lo\n"}) for offset in (2, 4, 1 << 62)
    )
    yield from (
        write({**held, "action": W.COMMIT, "offset": offset, "expected": OTHER_DIGEST}) for offset in (2, 4)
    )
    yield from (
        write({**held, "action": W.COMMIT, "expected": digest}) for digest in (*BAD_DIGESTS[1:], OTHER_DIGEST)
    )
    yield from (write({**held, "action": W.COMMIT, "total": total}) for total in (2, 4, -1))
    yield write({**held, "action": W.COMMIT, "labels": BIG})
    yield write({"action": W.STAT, "ref": "again", "expected": HELLO_DIGEST, "total": 6})


def bad_images():
    service, v1 = images_v1.IMAGES, images_v1

    def create(**fields):
        image = v1.Image(**{"name": "new", "target": descriptor(), **fields})
        return Call(service, "Create", v1.CreateImageRequest(image=image))

    def update(*paths, **fields):
        image = v1.Image(**{"name": "i1", "target": descriptor(), **fields})
        mask = wkt.FieldMask(paths=paths) if paths else None
        return Call(service, "Update", v1.UpdateImageRequest(image=image, update_mask=mask))

    targets = [descriptor(digest=digest) for digest in BAD_DIGESTS]
    targets += [descriptor(size=0), descriptor(size=-1), descriptor(media_type="")]
    yield from (create(target=target) for target in (*targets, None))
    yield from (update("target", target=target) for target in (*targets, None))
    yield from (update(target=target) for target in targets)
    yield from (create(name=""), create(name="i1"), create(labels=BIG))
    yield from (update(name=""), update(name="unknown"), update("labels.a", name="unknown"))
    yield from (update(path) for path in ("name", "created_at", "nope", "", "target.digest", "Labels"))
    yield from (
        update("labels", labels=BIG),
        update("labels.key-of-the-label", labels=BIG),
        update(labels=BIG),
    )
    for name in ("", "unknown"):
        yield Call(service, "Get", v1.GetImageRequest(name=name))
        yield Call(service, "Delete", v1.DeleteImageRequest(name=name))
        yield Call(service, "Delete", v1.DeleteImageRequest(name=name, sync=True))
    yield from (Call(service, "List", v1.ListImagesRequest(filters=[text])) for text in BAD_FILTERS)


def bad_leases():
    service, v1 = leases_v1.LEASES, leases_v1
    yield Call(service, "Create", v1.CreateRequest(id="l1"))
    resources = (("content", "x"), ("content", OTHER_DIGEST), ("content/x", HELLO_DIGEST),
        ("content/", HELLO_DIGEST), ("snapshots", "k"), ("snapshots/", "k"), ("snapshots/a/b", "k"), ("volumes", "v"), ("", ""), ("ingests/x", "r"))  # fmt: skip
    for kind, id in resources:
        resource = v1.Resource(id=id, type=kind)
        for lease in ("l1", "unknown"):
            if lease == "l1" and (kind, id) == ("content", OTHER_DIGEST):
                continue  # may be named before it is there
            yield Call(service, "AddResource", v1.AddResourceRequest(id=lease, resource=resource))
            if (lease, kind) != ("l1", "snapshots/"):  # which is let pass there
                yield Call(service, "DeleteResource", v1.DeleteResourceRequest(id=lease, resource=resource))
    for id in ("", "unknown"):
        yield Call(service, "Delete", v1.DeleteRequest(id=id))
        yield Call(service, "Delete", v1.DeleteRequest(id=id, sync=True))
        yield Call(service, "ListResources", v1.ListResourcesRequest(id=id))
    yield from (Call(service, "List", v1.ListRequest(filters=[text])) for text in BAD_FILTERS)


def bad_namespaces():
    service, v1 = namespaces_v1.NAMESPACES, namespaces_v1

    def update(*paths, **fields):
        request = v1.UpdateNamespaceRequest(
            namespace=v1.Namespace(**fields), update_mask=wkt.FieldMask(paths=paths)
        )
        return Call(service, "Update", request)

    for name in BAD_IDS:
        yield Call(service, "Create", v1.CreateNamespaceRequest(namespace=v1.Namespace(name=name)))
        yield Call(service, "Delete", v1.DeleteNamespaceRequest(name=name))
    yield Call(service, "Create", v1.CreateNamespaceRequest(namespace=v1.Namespace(name="default")))
    yield Call(service, "Create", v1.CreateNamespaceRequest(namespace=v1.Namespace(name="new", labels=BIG)))
    yield from (update(path, name="default") for path in ("name", "nope", "", "Labels", "namespace.labels"))
    yield update("labels.key-of-the-label", name="default", labels=BIG)
    yield update("labels", name="default", labels=BIG)
    yield update(name="default", labels=BIG)
    yield Call(service, "Delete", v1.DeleteNamespaceRequest(name="default"))
    yield Call(service, "Delete", v1.DeleteNamespaceRequest(name="unknown"))


def bad_snapshots():
    v1 = snapshots_v1

    def one(method, request, *, snapshotter=OVERLAY, **keywords):
        request.snapshotter = snapshotter
        return Call(v1.SNAPSHOTS, method, request, **keywords)

    def each(**keywords):
        """Every method, for a snapshot that is well named."""
        yield one("Prepare", v1.PrepareSnapshotRequest(key="new"), **keywords)
        yield one("View", v1.ViewSnapshotRequest(key="new"), **keywords)
        yield one("Commit", v1.CommitSnapshotRequest(key="active", name="new"), **keywords)
        yield one("Mounts", v1.MountsRequest(key="active"), **keywords)
        yield one("Remove", v1.RemoveSnapshotRequest(key="active"), **keywords)
        yield one("Stat", v1.StatSnapshotRequest(key="active"), **keywords)
        yield one("Update", v1.UpdateSnapshotRequest(info=v1.Info(name="active")), **keywords)
        yield one("List", v1.ListSnapshotsRequest(), **keywords)
        yield one("Usage", v1.UsageRequest(key="active"), **keywords)
        yield one("Cleanup", v1.CleanupRequest(), **keywords)

    for snapshotter in ("", "unknown", "Overlayfs"):
        yield from each(snapshotter=snapshotter)
    yield from (a for a in each(namespace=None) if a.method != "Cleanup")
    yield from (a for a in each(namespace="empty") if a.method not in ("Prepare", "View", "List", "Cleanup"))
    for make, request in (("Prepare", v1.PrepareSnapshotRequest), ("View", v1.ViewSnapshotRequest)):
        yield from (one(make, request(key=key)) for key in ("active", "base", "view"))
        yield from (one(make, request(key="new", parent=parent)) for parent in ("unknown", "active", "view"))
        yield one(make, request(key="new", labels=BIG))
        yield one(make, request(key="new"), lease="unknown")
    commit = v1.CommitSnapshotRequest
    yield from (one("Commit", commit(key=key, name="new")) for key in ("", "unknown", "base", "view"))
    yield one("Commit", commit(key="active", name="base"))
    yield one("Commit", commit(key="active", name="new", labels=BIG))
    yield one("Commit", commit(key="active", name="new"), lease="unknown")
    for key in ("", "unknown"):
        yield one("Mounts", v1.MountsRequest(key=key))
        yield one("Remove", v1.RemoveSnapshotRequest(key=key))
        yield one("Stat", v1.StatSnapshotRequest(key=key))
        yield one("Usage", v1.UsageRequest(key=key))
        yield one("Update", v1.UpdateSnapshotRequest(info=v1.Info(name=key)))
    yield one("Remove", v1.RemoveSnapshotRequest(key="base"))
    yield one("Mounts", v1.MountsRequest(key="base"))
    for path in ("name", "parent", "kind", "created_at", "nope", "", "Labels"):
        mask = wkt.FieldMask(paths=[path])
        yield one("Update", v1.UpdateSnapshotRequest(info=v1.Info(name="active"), update_mask=mask))
    for paths in (("labels",), ("labels.key-of-the-label",), ()):
        mask = wkt.FieldMask(paths=paths)
        yield one(
            "Update", v1.UpdateSnapshotRequest(info=v1.Info(name="active", labels=BIG), update_mask=mask)
        )
    yield from (one("List", v1.ListSnapshotsRequest(filters=[text])) for text in BAD_FILTERS)


def bad_others():
    plugins = introspection_v1.PluginsRequest
    yield from (
        Call(introspection_v1.INTROSPECTION, "Plugins", plugins(filters=[text])) for text in BAD_FILTERS
    )
    service = events_v1.EVENTS
    yield from (Call(service, "Subscribe", events_v1.SubscribeRequest(filters=[text])) for text in BAD_FILTERS)  # fmt: skip
    for topic in ("", "x", "/", "//", "/a/", "/a//b", "/a b", "/ä", "a/b"):
        yield Call(service, "Publish", events_v1.PublishRequest(topic=topic))
        envelope = types.Envelope(namespace="default", topic=topic)
        yield Call(service, "Forward", events_v1.ForwardRequest(envelope=envelope))
    for namespace in ("", "a..b"):
        envelope = types.Envelope(namespace=namespace, topic="/a")
        yield Call(service, "Forward", events_v1.ForwardRequest(envelope=envelope))
    yield Call(service, "Publish", events_v1.PublishRequest(topic="/a"), None)
    bind = [types.Mount(type="bind", source="/nope/nowhere", options=["rbind"])]
    apply, diff = diff_v1.ApplyRequest, diff_v1.DiffRequest
    layer = "application/vnd.oci.image.layer.v1.tar"
    for digest in (*BAD_DIGESTS, OTHER_DIGEST):
        yield Call(
            diff_v1.DIFF, "Apply", apply(diff=types.Descriptor(media_type=layer, digest=digest), mounts=bind)
        )
    yield Call(diff_v1.DIFF, "Apply", apply(diff=descriptor(media_type="text/plain"), mounts=bind))
    yield Call(diff_v1.DIFF, "Apply", apply(diff=descriptor(media_type=layer), mounts=bind), None)
    yield Call(diff_v1.DIFF, "Diff", diff(media_type="text/plain", ref="r"))
    yield Call(diff_v1.DIFF, "Diff", diff(media_type=layer, ref="r"), None)
    yield Call(diff_v1.DIFF, "Diff", diff(media_type=layer, ref="r"), "default", "unknown")


SERVICES = (
    containers_v1.CONTAINERS,
    content_v1.CONTENT,
    diff_v1.DIFF,
    events_v1.EVENTS,
    images_v1.IMAGES,
    introspection_v1.INTROSPECTION,
    leases_v1.LEASES,
    namespaces_v1.NAMESPACES,
    snapshots_v1.SNAPSHOTS,
    tasks_v1.TASKS,
)
CANNOT_FAIL = {
    (introspection_v1.INTROSPECTION.name, "Server"): "has no arguments",
    (introspection_v1.INTROSPECTION.name, "PluginInfo"): "newer than the peer",
    (namespaces_v1.NAMESPACES.name, "Get"): "answers for every name, as containerd does",
    (namespaces_v1.NAMESPACES.name, "List"): "has no arguments",
}
TASK_METHODS = {
    "Start": tasks_v1.StartRequest,
    "Get": tasks_v1.GetRequest,
    "Kill": tasks_v1.KillRequest,
    "ResizePty": tasks_v1.ResizePtyRequest,
    "CloseIO": tasks_v1.CloseIORequest,
    "Wait": tasks_v1.WaitRequest,
    "Delete": tasks_v1.DeleteTaskRequest,
    "DeleteProcess": tasks_v1.DeleteProcessRequest,
    "Exec": tasks_v1.ExecProcessRequest,
    "Pause": tasks_v1.PauseTaskRequest,
    "Resume": tasks_v1.ResumeTaskRequest,
    "ListPids": tasks_v1.ListPidsRequest,
    "Checkpoint": tasks_v1.CheckpointTaskRequest,
    "Update": tasks_v1.UpdateTaskRequest,
    "Create": tasks_v1.CreateTaskRequest,
}


def bad_tasks():
    for method, request in TASK_METHODS.items():
        for id in ("unknown", "", "a..b", "c1"):
            if (method, id) != ("Create", "c1"):
                yield Call(tasks_v1.TASKS, method, request(container_id=id))
        yield Call(tasks_v1.TASKS, method, request(container_id="c1"), None)
        yield Call(tasks_v1.TASKS, method, request(container_id="c1"), "empty")
    yield Call(tasks_v1.TASKS, "List", tasks_v1.ListTasksRequest(), None)
    yield from (
        Call(tasks_v1.TASKS, "Metrics", tasks_v1.MetricsRequest(filters=[text])) for text in BAD_FILTERS
    )


GROUPS = {
    "containers": bad_containers,
    "content": bad_content,
    "images": bad_images,
    "leases": bad_leases,
    "namespaces": bad_namespaces,
    "snapshots": bad_snapshots,
    "tasks": bad_tasks,
    "diff, events, introspection": bad_others,
}


def fill(channel) -> None:
    """One of everything."""

    def do(service, method, request, **keywords):
        answer = call(channel, service, method, request, **keywords)
        assert answer[:2] == ("OK", ""), (method, answer)

    lease = {"lease": "l1"}
    do(leases_v1.LEASES, "Create", leases_v1.CreateRequest(id="l1", labels={"a": "b"}))
    snapshots, v1 = snapshots_v1.SNAPSHOTS, snapshots_v1
    do(snapshots, "Prepare", v1.PrepareSnapshotRequest(snapshotter=OVERLAY, key="k"), **lease)
    do(
        snapshots,
        "Commit",
        v1.CommitSnapshotRequest(snapshotter=OVERLAY, key="k", name="base", labels=ROOTED),
    )
    for make, request, key in (
        ("Prepare", v1.PrepareSnapshotRequest, "active"),
        ("View", v1.ViewSnapshotRequest, "view"),
    ):
        do(
            snapshots,
            make,
            request(snapshotter=OVERLAY, key=key, parent="base", labels={**ROOTED, "a": "b"}),
            **lease,
        )
    first = content_v1.WriteContentRequest(action=W.WRITE, ref="r", data=HELLO)
    commit = content_v1.WriteContentRequest(
        action=W.COMMIT, offset=6, total=6, expected=HELLO_DIGEST, labels={**ROOTED, "a": "b"}
    )
    do(content_v1.CONTENT, "Write", [first, commit], **lease)
    do(
        content_v1.CONTENT,
        "Write",
        [content_v1.WriteContentRequest(action=W.WRITE, ref="held", data=b"hel")],
        **lease,
    )
    image = images_v1.Image(name="i1", target=descriptor(), labels={"a": "b"})
    do(images_v1.IMAGES, "Create", images_v1.CreateImageRequest(image=image))
    record = container(id="c1", snapshotter=OVERLAY, snapshot_key="active", labels={"a": "b"})
    do(containers_v1.CONTAINERS, "Create", containers_v1.CreateContainerRequest(container=record))


def everything(channel) -> list[object]:
    """What a daemon keeps, whole: times included."""
    listed = []
    for service, request in (
        (containers_v1.CONTAINERS, containers_v1.ListContainersRequest()),
        (content_v1.CONTENT, content_v1.ListContentRequest()),
        (images_v1.IMAGES, images_v1.ListImagesRequest()),
        (leases_v1.LEASES, leases_v1.ListRequest()),
        (namespaces_v1.NAMESPACES, namespaces_v1.ListNamespacesRequest()),
        (snapshots_v1.SNAPSHOTS, snapshots_v1.ListSnapshotsRequest(snapshotter=OVERLAY)),
        (tasks_v1.TASKS, tasks_v1.ListTasksRequest()),
    ):
        listed.append(call(channel, service, "List", request))
    listed.append(call(channel, leases_v1.LEASES, "ListResources", leases_v1.ListResourcesRequest(id="l1")))
    listed.append(call(channel, content_v1.CONTENT, "Status", content_v1.StatusRequest(ref="held")))
    statuses = call(channel, content_v1.CONTENT, "ListStatuses", content_v1.ListStatusesRequest())
    listed.append([status.ref for status in statuses[2].statuses])
    assert all(answer[0] == "OK" for answer in listed[:-1])
    return listed


@pytest.fixture(scope="module")
def daemons():
    folder = Path(tempfile.mkdtemp(prefix="b", dir="/tmp"))
    with Daemon(folder / "r", real=True) as real, Daemon(folder / "o", real=False) as ours:
        for daemon in (real.start(), ours.start()):
            with daemon.channel() as channel:
                fill(channel)
        yield real, ours
    remove_tree(str(folder))


def plain(daemon: Daemon, answer: tuple[object, ...]) -> str:
    """Without the mounts that containerd's differ makes: ours opens what it writes to before it mounts anything."""
    return re.sub(r"mount callback failed on \S+: ", "", masked_answer(daemon, answer))


@pytest.mark.parametrize("group", GROUPS)
def test_a_bad_call_gets_the_real_daemons_answer_and_changes_nothing(daemons, group):
    real, ours = daemons
    differences = []
    with real.channel() as real_channel, ours.channel() as our_channel:
        before = everything(real_channel), everything(our_channel)
        for service, method, request, namespace, lease in GROUPS[group]():
            if not can_be_compared(service, method, request):
                continue
            expected, actual = (
                call(channel, service, method, request, namespace=namespace, lease=lease)
                for channel in (real_channel, our_channel)
            )
            if plain(real, expected) != plain(ours, actual) or expected[0] == "OK":
                shown = f"{service.name}.{method}({str(request)[:200]!r}, {namespace}, {lease})"
                differences.append(f"{shown}\n  real {expected}\n  ours {actual}")
        assert (everything(real_channel), everything(our_channel)) == before
    assert not differences, "\n".join(differences)


def test_every_compared_method_has_a_bad_call():
    called = {(call.service.name, call.method) for calls in GROUPS.values() for call in calls()}
    services = {name for name, _ in called}
    known = {(service.name, method.name) for service in SERVICES for method in service.methods}
    assert services == {service.name for service in SERVICES}
    assert known - called == set(CANNOT_FAIL)
