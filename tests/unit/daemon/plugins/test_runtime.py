"""Bundles, shim answers, exit reports, runtime names."""

from __future__ import annotations

import json
import os

import pytest

from pycontainerd.daemon.core.events import Envelope
from pycontainerd.daemon.core.tasks import Exit
from pycontainerd.daemon.core.typed import TypedValue
from pycontainerd.daemon.plugins.runtime_v2 import binary
from pycontainerd.daemon.plugins.runtime_v2.bundle import Bundle
from pycontainerd.daemon.plugins.runtime_v2.exits import ExitReports
from pycontainerd.daemon.plugins.runtime_v2.starter import Bootstrap, ShimCommand, parse_bootstrap
from pycontainerd.lib import launcher
from pycontainerd.lib.api.full import bootstrap_v1, events, wkt
from pycontainerd.lib.errdefs import AlreadyExists, InvalidArgument, Unimplemented, Unknown


@pytest.fixture
def bundle(tmp_path):
    return Bundle(f"{tmp_path}/state", f"{tmp_path}/root", "ns", "c1")


def test_a_bundle_has_containerds_files_and_modes(bundle):
    bundle.create(b'{"x":1}')
    assert oct(os.stat(bundle.path).st_mode) == "0o40700"
    assert oct(os.stat(f"{bundle.path}/rootfs").st_mode) == "0o40711"
    assert oct(os.stat(os.path.dirname(bundle.path)).st_mode) == "0o40711"
    assert os.readlink(f"{bundle.path}/work") == bundle.work_path
    assert bundle.read("config.json") == '{"x":1}'
    bundle.delete()
    assert not os.path.exists(bundle.path)
    assert not os.path.exists(bundle.work_path)
    bundle.delete()


@pytest.mark.requires("root")
def test_a_bundle_of_a_user_namespace_belongs_to_its_mapped_root(bundle):
    bundle.create(
        json.dumps({"linux": {"gidMappings": [{"containerID": 0, "hostID": 12345, "size": 10}]}}).encode()
    )
    status = os.stat(bundle.path)
    assert (status.st_gid, oct(status.st_mode)) == (12345, "0o40710")


def test_a_bundle_is_made_once_and_only_under_good_names(bundle):
    bundle.create(b"{}")
    with pytest.raises(AlreadyExists):
        bundle.create(b"{}")
    assert os.path.isdir(f"{bundle.path}/rootfs"), "the first one is untouched"
    with pytest.raises(InvalidArgument, match=r"invalid task id \.\./x"):
        Bundle(os.path.dirname(bundle.path), "/nonexistent", "ns", "../x").create(b"{}")


def test_what_is_left_in_a_rootfs_is_never_deleted(bundle):
    bundle.create(b"{}")
    with open(f"{bundle.path}/rootfs/data", "w") as f:
        f.write("somebody's")
    with pytest.raises(OSError, match="not empty"):
        bundle.delete()
    assert os.path.exists(f"{bundle.path}/rootfs/data")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (b"unix:///run/s/abc\n", Bootstrap("unix:///run/s/abc", 2)),
        (b'{"version":3,"address":"unix:///s","protocol":"ttrpc"}', Bootstrap("unix:///s", 3)),
        (b'{"version":2,"address":"unix:///s"}\n', Bootstrap("unix:///s", 2)),
        (
            bootstrap_v1.BootstrapResult(
                version=3, address="unix:///s", protocol="ttrpc"
            ).SerializeToString(),
            Bootstrap("unix:///s", 3),
        ),
    ],
)
def test_all_three_answers_of_shims_are_understood(output, expected):
    assert parse_bootstrap(output) == expected


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (b'{"version":4,"address":"unix:///s"}', Unimplemented),
        (b'{"version":3,"address":"unix:///s","protocol":"grpc"}', Unimplemented),
        (b'{"address"', Unknown),
        (b'{"version":"x","address":"a"}', Unknown),
        (b"panic: something\n", Unknown),
        (b"", Unknown),
    ],
)
def test_other_answers_are_errors(output, error):
    with pytest.raises(error):
        parse_bootstrap(output)


def test_s066_start_argv_is_containerds():
    command = ShimCommand(
        "/b/shim", "default", "u8", "/bundle", "/run/c.sock", "/run/c.sock.ttrpc", "/b/containerd", debug=True
    )
    assert command.start_argv() == (
        [
            "/b/shim",
            "-namespace",
            "default",
            "-address",
            "/run/c.sock",
            "-publish-binary",
            "/b/containerd",
            "-id",
            "u8",
            "-debug",
            "start",
        ]
    )
    assert command.delete_argv() == (
        [
            "/b/shim",
            "-namespace",
            "default",
            "-address",
            "/run/c.sock",
            "-publish-binary",
            "/b/containerd",
            "-id",
            "u8",
            "-bundle",
            "/bundle",
            "delete",
        ]
    )


@pytest.mark.parametrize(
    ("printed", "ending"),
    [(r"\020\011", (0, 9)), ("garbage", "no DeleteResponse"), ("", (0, 0))],  # field 2, exit_status: 9
)
def test_what_a_shim_prints_after_its_clean_up_is_how_the_task_ended(tmp_path, printed, ending):
    shim = tmp_path / "shim"
    shim.write_text(f"#!/bin/sh\nprintf '{printed}'; printf warned >&2\n")
    shim.chmod(0o755)
    command = ShimCommand(str(shim), "default", "u9", str(tmp_path), "/c.sock", "/c.sock.ttrpc", "/c")
    if isinstance(ending, str):
        with pytest.raises(Unknown, match=ending):
            command.clean_up(5)
        return
    end, warnings = command.clean_up(5)
    assert ((end.pid, end.status), warnings) == (ending, "warned")
    assert end.exited_nanos > 0


def test_both_names_are_our_shim_unless_configured():
    own = launcher.path("containerd-shim-pyrunc-v2")
    assert binary.resolve("io.containerd.runc.v2", {}) == own
    assert binary.resolve("io.containerd.pyrunc.v2", {}) == own
    assert binary.resolve("io.containerd.runc.v2", {"io.containerd.runc.v2": "/x"}) == "/x"
    assert binary.resolve("/bin/sh", {}) == "/bin/sh"


def test_other_names_are_found_on_path(tmp_path, monkeypatch):
    program = tmp_path / "containerd-shim-kata-v2"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert binary.resolve("io.containerd.kata.v2", {}) == str(program)


@pytest.mark.parametrize("name", ["", "x", "a/b.c", "./x.y", "/nonexistent", "io.containerd.nope.v9"])
def test_other_runtimes_are_errors(name):
    with pytest.raises(Unknown, match="failed to resolve runtime path"):
        binary.resolve(name, {})


class Reports:
    """An ExitReports with everything that went out."""

    def __init__(self, state) -> None:
        self.sent: list[tuple[str, str]] = []
        self.is_heard = True
        self.reports = ExitReports([str(state)], self.publish, lambda: self.is_heard)

    def publish(self, namespace: str, topic: str, event: TypedValue) -> None:
        if self.reports.admit(Envelope(1, namespace, topic, event)):
            cls = events.TaskExit if topic == "/tasks/exit" else events.TaskDelete
            self.sent.append((topic, str(cls.FromString(event.value).exit_status)))

    def exit(self, id: str, pid: int, status: int) -> None:
        message = events.TaskExit(
            container_id="c", id=id, pid=pid, exit_status=status, exited_at=wkt.Timestamp(seconds=1)
        )
        self.publish(
            "ns", "/tasks/exit", TypedValue("containerd.events.TaskExit", message.SerializeToString())
        )


def test_an_exit_goes_out_once(tmp_path):
    world = Reports(tmp_path)
    world.exit("c", 10, 7)
    world.exit("c", 10, 7)
    world.exit("e", 11, 3)
    world.exit("e", 12, 4)  # the same exec id, used again
    assert world.sent == [("/tasks/exit", "7"), ("/tasks/exit", "3"), ("/tasks/exit", "4")]


def test_a_lost_shim_does_not_change_a_code_that_was_reported(tmp_path):
    world = Reports(tmp_path)
    world.exit("c", 10, 7)
    world.reports.report_lost("ns", "c", Exit(10, 137, 1))
    assert world.sent == [("/tasks/exit", "7"), ("/tasks/delete", "7")]


def test_what_was_told_to_nobody_is_told_again_to_the_first_who_listens(tmp_path):
    world = Reports(tmp_path)
    world.is_heard = False
    world.exit("c", 10, 7)
    world.exit("e", 11, 3)
    world.is_heard = True
    world.exit("f", 12, 4)
    world.sent.clear()
    world.reports.report_unheard({("ns", "c")})
    assert world.sent == [("/tasks/exit", "7"), ("/tasks/exit", "3")]
    world.exit("c", 10, 7)
    world.reports.report_unheard({("ns", "c")})
    assert len(world.sent) == 2


def test_what_was_told_to_nobody_about_others_or_was_deleted_is_not_told_again(tmp_path):
    world = Reports(tmp_path)
    world.is_heard = False
    world.exit("c", 10, 7)
    world.reports.report_unheard({("ns", "other")})
    assert len(world.sent) == 1
    world = Reports(tmp_path)
    world.is_heard = False
    world.exit("c", 10, 7)
    message = events.TaskDelete(container_id="c", pid=10, exit_status=7)
    world.publish(
        "ns", "/tasks/delete", TypedValue("containerd.events.TaskDelete", message.SerializeToString())
    )
    world.reports.report_unheard({("ns", "c")})
    assert [topic for topic, _ in world.sent] == ["/tasks/exit", "/tasks/delete"]


def test_a_restarted_daemon_knows_what_was_reported(tmp_path):
    (tmp_path / "ns/c").mkdir(parents=True)
    Reports(tmp_path).exit("c", 10, 7)
    restarted = Reports(tmp_path)
    assert restarted.reports.was_reported("ns", "c")
    assert not restarted.reports.was_reported("ns", "other")


def test_the_next_task_of_the_same_container_is_reported_again(tmp_path):
    world = Reports(tmp_path)
    world.exit("c", 10, 7)
    message = events.TaskDelete(container_id="c", pid=10, exit_status=7)
    world.publish(
        "ns", "/tasks/delete", TypedValue("containerd.events.TaskDelete", message.SerializeToString())
    )
    world.exit("c", 10, 0)
    assert [status for _, status in world.sent] == ["7", "7", "0"]
