"""Debian's ctr on our daemon and on the real one: the same text, the same exit codes, the same events."""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from pycontainerd.daemon.core.files import remove_tree
from pycontainerd.lib.api.full import events_v1, wkt
from support import parity
from support.daemons import STOCK_SHIM, Daemon, call, make_rootfs
from support.images import build_layout
from support.programs import peer, peer_environment

HELLO = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
OTHER = HELLO[:-1] + "4"

METADATA = f"""
ns create n1 a=b
ns create n1 a=b
ns create bad..name
ns label n1 a= c=d
ns ls
ns rm nope
ns rm n1
content ls
content ingest r1
content ingest --expected-digest {HELLO} --expected-size 6 r2
content ingest --expected-size 7 r3
content ingest --expected-digest {OTHER} r4
content ls -q
content get {HELLO}
content get {OTHER}
content get foo
content label {HELLO} foo=bar
-n other content ingest --expected-digest {HELLO} --expected-size 6 r2
-n other content ls -q
snapshots prepare a
snapshots prepare a
snapshots prepare b nope
snapshots commit ca a
snapshots commit ca a
snapshots prepare b ca
snapshots prepare --target /tmp/x d ca
snapshots mounts /tmp/m b
snapshots mounts /tmp/m ca
snapshots commit cb b
snapshots ls
snapshots info ca
snapshots usage
snapshots tree
snapshots rm ca
snapshots rm zz
snapshots label ca x=y
snapshots --snapshotter nope ls
snapshots --snapshotter native prepare a
snapshots --snapshotter native commit ca a
snapshots --snapshotter native prepare b ca
snapshots --snapshotter native ls
snapshots --snapshotter native mounts /tmp/m b
leases create --id l1 --expires 1h foo=bar
leases create --id l1
leases ls id==l1
leases ls id==
leases rm l1 --sync
leases rm nope
images ls
images rm nope
images tag nope a
images label nope a=b
containers create --rootfs ROOTFS c1 echo hi
containers create --rootfs ROOTFS c1 echo hi
containers create --rootfs ROOTFS bad..id echo hi
containers create nope c2
containers ls
containers ls -q
containers info c1
containers info nope
containers label c1 foo=bar
containers ls -q labels.foo==bar
containers ls -q labels.foo!!bar
containers rm c1
containers rm nope
content rm {OTHER}
ns rm default
tasks ls
"""

TASKS = """
run --rm --rootfs ROOTFS t1 /bin/echo hi
run --rm --rootfs ROOTFS t1 /bin/sh -c exit${IFS}42
run --rm --rootfs ROOTFS t1 /bin/nope
run -d --rootfs ROOTFS t2 /bin/sleep 1000
run -d --rootfs ROOTFS t2 /bin/sleep 1000
tasks ls
tasks ls -q
tasks ps t2
tasks exec --exec-id e1 t2 /bin/echo execd
tasks exec --exec-id e1 t2 /bin/sh -c exit${IFS}3
tasks exec --exec-id e1 t2 /bin/nope
tasks exec --exec-id bad..id t2 /bin/echo
tasks exec --exec-id e9 nope /bin/echo
tasks pause t2
tasks ls
tasks resume t2
tasks resume t2
tasks metrics t2
tasks metrics nope
tasks rm t2
containers rm t2
tasks kill -s 9 nope
tasks kill -s 9 t2
WAIT STOPPED
tasks kill -s 9 t2
tasks rm t2
tasks rm t2
tasks start -d t2
tasks ls -q
tasks kill -s 9 t2
WAIT STOPPED
tasks rm t2
containers rm t2
containers create --rootfs ROOTFS t3 /bin/sh -c echo${IFS}yes;sleep${IFS}0.3
tasks start t3
containers rm t3
run --rm --runtime io.containerd.nope.v1 --rootfs ROOTFS t4 /bin/echo
run --rm --runtime nope --rootfs ROOTFS t4 /bin/echo
run --rm --runtime /nope --rootfs ROOTFS t4 /bin/echo
containers ls
"""

IMAGES = """
image import --base-name docker.io/library/busybox IMAGE
leases create --id collect
leases rm --sync collect
image ls
content ls -q
snapshot ls
snapshot tree
image check
run --rm docker.io/library/busybox:latest b1 /bin/echo from image
run --rm --read-only docker.io/library/busybox:latest b1 /bin/touch /f
run -d docker.io/library/busybox:latest b2 /bin/sleep 100
snapshot ls
snapshot mounts /tmp/m b2
container info b2
image tag docker.io/library/busybox:latest docker.io/library/copy:1
image export EXPORT docker.io/library/copy:1
image rm docker.io/library/copy:1
tasks kill -s 9 b2
WAIT STOPPED
tasks rm b2
container rm b2
image rm --sync docker.io/library/busybox:latest
content ls -q
snapshot ls
"""


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))
    yield path
    remove_tree(str(path))


@pytest.fixture(params=["stock", "auto"])
def pair(request, folder):
    """The real daemon and ours, with containerd's shim and with our own from the forkserver."""
    stock = STOCK_SHIM.format(path=peer("containerd-shim-runc-v2"))
    extra, starter = ("  " + stock, "exec") if request.param == "stock" else ("", "auto")
    with (
        Daemon(folder / "r", real=True) as real,
        Daemon(folder / "o", real=False, config_extra=extra, starter=starter) as ours,
    ):
        yield real.start(), ours.start()


def _masked(daemon: Daemon, text: str) -> str:
    text = parity.shown_by_ctr(text).replace(f"{daemon.folder}/", "/D/")
    for pattern, replacement in (
        (r"\d{4}-\d\d-\d\d[T ][0-9:.]+( \+0000 UTC|Z)", "TIME"),
        (r"(?m)^(t\d +)\d+", r"\1PID"),
        (r"(?m)^\d+ +", "PID "),
        (r'"pid":\d+', '"pid":PID'),
        (r"fifo/\d+/", "fifo/N/"),
        (r"snapshots/\d+/", "snapshots/N/"),
        (r"(default|other)/\d+/", r"\1/N/"),
        (r"(?m)^([a-z]+[._][a-z_.]+ +)[\[\]0-9 ]+$", r"\1 N"),  # metrics
        (r"import-[0-9-]+", "import-TIME"),
        (r"x=y,containerd.io/gc.root=TIME", "containerd.io/gc.root=TIME,x=y"),  # ctr prints maps as they come
        (r"(?m) +$", ""),
        (r"(?m)^(REF|ID|TASK|PID) .*[A-Z].*", r"\1"),  # columns as wide as what is in them
    ):
        text = re.sub(pattern, replacement, text)
    return text


def _transcript(daemon: Daemon, script: str, places: dict[str, str]) -> str:
    lines = []
    for command in script.strip().splitlines():
        words = [places.get(word, word) for word in command.split()]
        if words[0] == "WAIT":
            _wait_for(daemon, words[1])
            continue
        done = daemon.ctr(*words, stdin=b"hello\n")
        lines.append(f"$ {command}\n{done.stdout.decode()}{done.stderr.decode()}exit {done.returncode}")
    return _masked(daemon, "\n".join(lines))


def _wait_for(daemon: Daemon, state: str) -> None:
    for _ in range(100):
        if state.encode() in daemon.ctr("tasks", "ls").stdout:
            return
    raise AssertionError(f"no task became {state}")


class _Events:
    """`ctr events` in the background."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [peer("ctr"), "--address", daemon.address, "events"],
            stdout=subprocess.PIPE,
            text=True,
            env=peer_environment(),
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self._wait_until_subscribed()

    def masked(self) -> str:
        self._publish("end")
        for _ in range(100):
            if any("/test/end" in line for line in self._lines):
                break
            threading.Event().wait(0.05)
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return _masked(self._daemon, "".join(line for line in self._lines if "/test/" not in line))

    def _wait_until_subscribed(self) -> None:
        for _ in range(100):
            self._publish("begin")
            threading.Event().wait(0.05)
            if self._lines:
                return
        raise AssertionError("no event arrived")

    def _publish(self, name: str) -> None:

        with self._daemon.channel() as channel:
            event = wkt.Any(type_url="containerd.events.NamespaceDelete")
            call(
                channel,
                events_v1.EVENTS,
                "Publish",
                events_v1.PublishRequest(topic=f"/test/{name}", event=event),
            )

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._lines.extend(iter(self._process.stdout.readline, ""))


def test_metadata_commands_print_what_they_print_on_the_real_daemon(pair, folder):
    places = {"ROOTFS": str(make_rootfs(folder / "rootfs"))}
    real, ours = (_transcript(daemon, METADATA, places) for daemon in pair)
    assert ours == real


def test_s010_tasks_and_their_events_are_those_of_the_real_daemon(pair, folder):
    places = {"ROOTFS": str(make_rootfs(folder / "rootfs"))}
    transcripts, events = [], []
    for daemon in pair:
        listener = _Events(daemon)
        transcripts.append(_transcript(daemon, TASKS, places))
        events.append(listener.masked())
    assert transcripts[1] == transcripts[0]
    assert events[1] == events[0]


def test_an_image_is_imported_run_exported_and_collected_as_on_the_real_daemon(pair, folder):
    archive = folder / "image.tar"
    build_layout(folder / "layout")
    subprocess.run(["tar", "-C", folder / "layout", "-cf", archive, "."], check=True)
    places = {"IMAGE": str(archive), "EXPORT": str(folder / "export.tar")}
    real, ours = (_transcript(daemon, IMAGES, places) for daemon in pair)
    assert ours == real


def test_s001_version_prints_client_and_server(pair):
    done = pair[1].ctr("version")
    assert re.search(rb"Client:\n  Version: .*\n(.*\n)*Server:\n  Version:  0\.1\.0\n", done.stdout)


def test_plugins_are_listed_with_their_state(pair):
    real, ours = (
        {
            tuple(line.split()[:2]): line.split()[2:]
            for line in daemon.ctr("plugins", "ls").stdout.decode().splitlines()
        }
        for daemon in pair
    )
    shared = real.keys() & ours.keys()
    assert {key: ours[key] for key in shared} == {key: real[key] for key in shared}
    assert len(shared) > 20


def test_sockets_and_folders_have_the_modes_of_the_real_daemon(pair):
    def modes(daemon: Daemon) -> dict[str, str]:
        names = [
            "c.sock",
            "c.sock.ttrpc",
            "root",
            "state",
            "root/io.containerd.content.v1.content",
            "root/io.containerd.content.v1.content/ingest",
            "root/io.containerd.snapshotter.v1.overlayfs",
            "root/io.containerd.snapshotter.v1.overlayfs/snapshots",
            "root/io.containerd.snapshotter.v1.native",
            "root/io.containerd.runtime.v2.task",
            "state/io.containerd.runtime.v2.task",
            "root/io.containerd.grpc.v1.introspection",
        ]
        return {name: oct((daemon.folder / name).stat().st_mode) for name in names}

    for daemon in pair:
        daemon.ctr("version")  # makes the introspection folder
        daemon.ctr("content", "ingest", "r", stdin=b"x")  # and this, since 1.7, those of the content
    real, ours = (modes(daemon) for daemon in pair)
    assert ours == real
