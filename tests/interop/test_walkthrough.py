"""What a person who follows the classic containerd notes sees, id by id: ctr and containerd (S001-S057).

Each test runs by Debian's ctr on Debian's containerd first, then by ours on ours: what is asked of ours, the real ones do.
"""

from __future__ import annotations

import json
import re
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

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
    version_v1,
)
from support.programs import TOP, ours, peer_environment
from support.walkthrough import Pair, open_pair, wait_until

if TYPE_CHECKING:
    from pycontainerd.lib.api.codec import Method, Service

pytestmark = [pytest.mark.requires("root", "overlayfs", "cgroup_v1"), pytest.mark.timeout(60)]

SERVICES = (
    containers_v1.CONTAINERS, content_v1.CONTENT, diff_v1.DIFF, events_v1.EVENTS, health_v1.HEALTH, images_v1.IMAGES,
    introspection_v1.INTROSPECTION, leases_v1.LEASES, namespaces_v1.NAMESPACES, snapshots_v1.SNAPSHOTS, tasks_v1.TASKS,
    version_v1.VERSION,
)  # fmt: skip
NEWER_METHODS = ("PluginInfo",)  # than Debian's daemon
CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
]
MOUNTS = {
    "/proc": "nosuid,noexec,nodev",
    "/dev": "nosuid,strictatime,mode=755,size=65536k",
    "/dev/pts": "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
    "/dev/shm": "nosuid,noexec,nodev,mode=1777,size=65536k",
    "/dev/mqueue": "nosuid,noexec,nodev",
    "/sys": "nosuid,noexec,nodev,ro",
    "/run": "nosuid,strictatime,mode=755,size=65536k",
}
DEVICES = [
    "1:3",
    "1:8",
    "1:7",
    "5:0",
    "1:5",
    "1:9",
    "5:1",
    "136:*",
    "5:2",
]  # newer than the notes: no /dev/net/tun
MASKED = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
]


@pytest.fixture(scope="module", params=["real", "ours"])
def pair(request: pytest.FixtureRequest, busybox: str):
    """A client and a daemon of one kind; container `w1` runs `sleep 1000` in it."""
    with open_pair(
        request.getfixturevalue({"real": "real_stack", "ours": "our_stack"}[request.param]), busybox
    ) as pair:
        pair("run", "-d", busybox, "w1", "sleep", "1000")
        yield pair


@pytest.fixture(scope="module")
def record(pair: Pair) -> dict:
    return json.loads(pair("container", "info", "w1").stdout)


def answer_of(channel: grpc.Channel, service: Service, method: Method, *, is_real: bool) -> grpc.StatusCode:
    """How a call without fields ends, or that it goes on."""
    # An empty request ends Debian's daemon with a nil pointer; one that nobody can read is answered.
    payload = b"\xff" if is_real else b""
    kind = "stream" if method.client_streaming else "unary"
    kind += "_stream" if method.server_streaming else "_unary"
    call = getattr(channel, kind)(f"/{service.name}/{method.name}")
    request = iter([payload]) if method.client_streaming else payload
    try:
        answer = call(request, timeout=0.3, metadata=(("containerd-namespace", "nobody"),))
        for _ in answer if method.server_streaming else ():
            break
    except grpc.RpcError as e:
        return e.code()
    return grpc.StatusCode.OK


def test_s003_a_generic_client_reaches_every_service(pair: Pair) -> None:
    with grpc.insecure_channel(f"unix://{pair.stack.address}") as channel:
        codes = {
            f"{service.name}/{method.name}": answer_of(channel, service, method, is_real=pair.is_real)
            for service in SERVICES
            for method in service.methods
            if not (pair.is_real and method.name in NEWER_METHODS)
        }
    assert len(codes) > 50
    assert [name for name, code in codes.items() if code is grpc.StatusCode.UNIMPLEMENTED] == []


def test_s003_the_client_goes_to_the_socket_it_is_told(pair: Pair, short_tmp: Path) -> None:
    (short_tmp / "other.sock").symlink_to(pair.stack.address)
    command = [pair.stack.command(pair.client)[0], "-a", str(short_tmp / "other.sock"), "task", "ls", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=pair.stack.environment)
    assert done.stdout == "w1\n"


def test_s004_the_daemon_is_a_program(pair: Pair) -> None:
    done = subprocess.run(
        [pair.stack.program, "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=pair.stack.environment,
    )
    assert re.match(r"(py)?containerd .+\n", done.stdout)


def test_s002_a_container_has_a_loopback_and_no_other_interface(pair: Pair) -> None:
    devices = pair.inside("cat /proc/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    assert len(pair.inside("cat /proc/net/route").splitlines()) == 1  # the header
    assert pair.inside("ls -l /proc/1/ns/net | sed 's/.*-> //'").strip() != str(
        Path("/proc/self/ns/net").readlink()
    )


def test_s012_aliases_link_the_classic_names(short_tmp: Path) -> None:
    subprocess.run([TOP / "scripts/aliases", short_tmp / "a"], check=True)
    names = {path.name: path.resolve().name for path in (short_tmp / "a").iterdir()}
    assert names == {
        "ctr": "pyctr", "docker-containerd-ctr": "pyctr", "containerd": "pycontainerd", "docker-containerd": "pycontainerd",
        "runc": "pyrunc", "docker-runc": "pyrunc", "containerd-shim-runc-v2": "containerd-shim-pyrunc-v2",
        "containerd-shim-runc-v1": "containerd-shim-pyrunc-v1",
        "containerd-shim": "containerd-shim-py", "docker-containerd-shim": "containerd-shim-py",
    }  # fmt: skip
    for name in ("containerd-shim", "docker-containerd-shim"):  # tell no version, as those they stand for
        done = subprocess.run(
            [short_tmp / "a" / name, "-h"], capture_output=True, text=True, env={}, check=False
        )
        assert (done.returncode, "-containerd-binary" in done.stderr) == (0, True)
    version = {
        name: ["-v" if "shim-runc" in name else "--version"] for name in names if not name.endswith("shim")
    }
    for name, args in version.items():
        done = subprocess.run(
            [short_tmp / "a" / name, *args], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=False
        )  # fmt: skip
        assert (done.returncode, "0.1.0" in done.stdout) == (0, True), (name, done)


def test_s012_the_link_named_ctr_asks_the_daemon(our_stack, short_tmp: Path) -> None:
    subprocess.run([TOP / "scripts/aliases", short_tmp / "a"], check=True)
    command = [short_tmp / "a/ctr", "-a", our_stack.address, "version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=peer_environment())
    assert re.match(r"Client:\n  Version:.*\nServer:\n  Version:", done.stdout, re.DOTALL)


def test_s016_to_s023_the_record(pair: Pair, busybox: str) -> None:
    text = pair.shows("container", "info", "w1")
    record = json.loads(text)
    assert text.startswith('{\n    "ID": "w1",\n    "Labels": {\n        "')
    assert list(record) == ["ID", "Labels", "Image", "Runtime", "SnapshotKey", "Snapshotter", "CreatedAt", "UpdatedAt", "Extensions", "Spec"]  # fmt: skip
    assert record["ID"] == "w1"
    assert record["Labels"]["io.containerd.image.config.stop-signal"] == "SIGTERM"
    assert record["Image"] == busybox
    options = {"type_url": "containerd.runc.v1.Options"}
    assert record["Runtime"] == {"Name": "io.containerd.runc.v2", "Options": options}
    assert (record["SnapshotKey"], record["Snapshotter"]) == ("w1", "overlayfs")
    assert record["CreatedAt"] == record["UpdatedAt"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z", record["CreatedAt"])
    assert record["Extensions"] is None


def test_s024_to_s026_s030_the_process_of_the_spec(record: dict) -> None:
    spec = record["Spec"]
    assert re.fullmatch(r"1\.\d+\.\d+(-dev)?", spec["ociVersion"])
    assert (spec["process"]["user"]["uid"], spec["process"]["user"]["gid"]) == (0, 0)
    assert spec["process"]["args"] == ["sleep", "1000"]
    assert spec["process"]["env"] == ["PATH=/bin:/usr/bin"]
    assert (spec["process"]["cwd"], spec["root"]) == ("/", {"path": "rootfs"})


def test_s026_a_terminal_adds_term(pair: Pair, busybox: str) -> None:
    pair("container", "create", "-t", busybox, "w2", "sh")
    process = json.loads(pair("container", "info", "w2").stdout)["Spec"]["process"]
    pair("container", "rm", "w2")
    assert process["terminal"] is True
    assert process["env"][-1] == "TERM=xterm"


def test_s027_capabilities_are_fourteen_and_none_is_inheritable(pair: Pair, record: dict) -> None:
    capabilities = record["Spec"]["process"]["capabilities"]
    assert list(capabilities) == ["bounding", "effective", "permitted"]
    assert all(names == [f"CAP_{name}" for name in CAPABILITIES] for names in capabilities.values())
    inside = dict(line.split(":\t", 1) for line in pair.inside("cat /proc/self/status").splitlines())
    assert {inside[key].strip() for key in ("CapPrm", "CapEff", "CapBnd")} == {"00000000a80425fb"}
    assert {inside[key].strip() for key in ("CapInh", "CapAmb")} == {"0000000000000000"}


def test_s028_open_files_are_limited_to_1024(pair: Pair, record: dict) -> None:
    assert record["Spec"]["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]
    assert pair.inside("ulimit -n; ulimit -Hn") == "1024\n1024\n"


def test_s029_no_new_privileges(pair: Pair, record: dict) -> None:
    assert record["Spec"]["process"]["noNewPrivileges"] is True
    assert pair.inside("grep NoNewPrivs /proc/self/status") == "NoNewPrivs:\t1\n"


def test_s031_seven_mounts_in_order(pair: Pair, record: dict) -> None:
    assert [m["destination"] for m in record["Spec"]["mounts"]] == list(MOUNTS)
    assert {m["destination"]: ",".join(m["options"]) for m in record["Spec"]["mounts"]} == MOUNTS
    inside = [line.split()[4] for line in pair.inside("cat /proc/self/mountinfo").splitlines()]
    assert inside[:8] == ["/", *MOUNTS]


def test_s032_devices_are_denied_but_for_the_list(pair: Pair, record: dict) -> None:
    first, *allowed = record["Spec"]["linux"]["resources"]["devices"]
    assert first == {"allow": False, "access": "rwm"}
    assert [f"{rule['major']}:{rule.get('minor', '*')}" for rule in allowed] == DEVICES
    assert all(rule["allow"] and rule["type"] == "c" and rule["access"] == "rwm" for rule in allowed)
    answer = pair.inside("mknod /tmp/d b 8 0; head -c1 /tmp/d 2>&1; rm /tmp/d; head -c1 /dev/zero | wc -c")
    assert answer == "head: /tmp/d: Operation not permitted\n1\n"


def test_s033_cgroups_are_named_after_namespace_and_id(pair: Pair, record: dict) -> None:
    assert record["Spec"]["linux"]["cgroupsPath"] == "/default/w1"
    lines = Path(f"/proc/{pair.pid('w1')}/cgroup").read_text().splitlines()
    assert {line.split(":")[2] for line in lines if ":memory:" in line or ":pids:" in line} == {"/default/w1"}


def test_s034_five_linux_namespaces(pair: Pair, record: dict) -> None:
    names = [entry["type"] for entry in record["Spec"]["linux"]["namespaces"]]
    assert names == ["pid", "ipc", "uts", "mount", "network"]
    pid = pair.pid("w1")
    own = {
        kind for kind in ("pid", "ipc", "uts", "mnt", "net", "user", "cgroup")
        if Path(f"/proc/{pid}/ns/{kind}").readlink() != Path(f"/proc/{pair.stack.pid()}/ns/{kind}").readlink()
    }  # fmt: skip
    assert own == {"pid", "ipc", "uts", "mnt", "net"}


def test_s035_masked_paths_are_empty(pair: Pair, record: dict) -> None:
    newer = {"/sys/devices/virtual/powercap"}  # 1.7's
    assert [path for path in record["Spec"]["linux"]["maskedPaths"] if path not in newer] == MASKED
    script = "for p in %s; do if test -d $p; then ls $p; elif test -e $p; then cat $p; fi; done"
    assert pair.inside(script % " ".join(MASKED)) == ""
    assert pair.inside("test -e /proc/keys && echo there") == "there\n"


def test_s036_read_only_paths(pair: Pair, record: dict) -> None:
    expected = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    assert record["Spec"]["linux"]["readonlyPaths"] == expected
    answer = pair.inside("echo x 2>&1 > /proc/sys/kernel/hostname; true", errors=True)
    assert "Read-only file system" in answer


@pytest.mark.parametrize("words", [("t", "metrics"), ("task", "metric"), ("tasks", "metrics")], ids="-".join)
def test_s037_s039_metrics_and_its_aliases(pair: Pair, words: tuple[str, ...]) -> None:
    lines = pair.shows(*words, "w1").splitlines()
    assert lines[0].split() == ["ID", "TIMESTAMP"]
    assert re.fullmatch(r"w1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000 UTC *", lines[1])
    assert lines[2] == ""
    assert lines[3].split() == ["METRIC", "VALUE"]


def test_s038_metrics_are_what_the_cgroup_files_say(pair: Pair) -> None:
    current = Path("/sys/fs/cgroup/pids/default/w1/pids.current")
    wait_until(lambda: current.read_text() == "1\n")  # no exec of another test on its way out
    rows = dict(line.split(None, 1) for line in pair("t", "metrics", "w1").stdout.splitlines()[4:])
    assert list(rows) == [
        "memory.usage_in_bytes", "memory.limit_in_bytes", "memory.stat.cache", "cpuacct.usage", "cpuacct.usage_percpu",
        "pids.current", "pids.limit",
    ]  # fmt: skip
    values = {name: value.strip() for name, value in rows.items()}
    assert values["memory.limit_in_bytes"] == "9223372036854771712"
    assert (values["pids.current"], values["pids.limit"]) == ("1", "0")
    percpu = Path("/sys/fs/cgroup/cpuacct/default/w1/cpuacct.usage_percpu").read_text().split()
    assert values["cpuacct.usage_percpu"] == f"[{' '.join(percpu)}]"
    assert values["cpuacct.usage"] == Path("/sys/fs/cgroup/cpuacct/default/w1/cpuacct.usage").read_text().strip()  # fmt: skip


def test_s040_to_s042_state_from_the_shim(pair: Pair) -> None:
    text = pair.shows("shim", "--id", "w1", "state")
    state = json.loads(text)
    assert text.startswith('{\n    "id": "w1",\n    "bundle": "')
    assert list(state) == ["id", "bundle", "pid", "status", "stdin", "stdout", "stderr", "exited_at"]
    assert (state["id"], state["pid"], state["status"]) == ("w1", pair.pid("w1"), 2)
    assert state["exited_at"] == "0001-01-01T00:00:00Z"
    assert state["bundle"] == f"{pair.stack.root}/s/io.containerd.runtime.v2.task/default/w1"
    assert Path(state["bundle"], "config.json").exists()
    for stream in ("stdin", "stdout", "stderr"):
        assert re.search(rf"/fifo/\d+/w1-{stream}$", state[stream])
        assert stat.S_ISFIFO(Path(state[stream]).stat().st_mode)


def test_s056_hello_world_in_three_commands(pair: Pair, busybox: str) -> None:
    pair("image", "pull", "--plain-http", busybox)
    pair("container", "create", busybox, "demo", "echo", "Hello from here!")
    assert "demo" in pair("container", "ls", "-q").stdout.split()
    assert "demo" not in pair("task", "ls", "-q").stdout.split()
    done = pair("task", "start", "demo")
    assert (done.stdout, done.returncode) == ("Hello from here!\n", 0)
    pair("container", "rm", "demo")


def test_s057_namespaces_have_lists_of_their_own(pair: Pair, busybox: str) -> None:
    assert pair("-n", "other", "container", "ls", "-q").stdout == ""
    assert pair("-n", "other", "image", "ls", "-q").stdout == ""
    assert pair("-n", "default", "container", "ls", "-q").stdout == "w1\n"
    pair("-n", "other", "image", "pull", "--plain-http", busybox)
    pair("-n", "other", "run", "-d", busybox, "w1", "sleep", "1000")  # the same id once more
    assert pair.pid("w1", "other") != pair.pid("w1")
    pair("-n", "other", "task", "rm", "-f", "w1", check=False)
    pair("-n", "other", "container", "rm", "w1")
    pair("-n", "other", "image", "rm", "--sync", busybox)


def test_s062_the_exit_code_comes_back(pair: Pair, busybox: str) -> None:
    done = pair("run", "--rm", busybox, "w3", "sh", "-c", "exit 42", check=False)
    assert done.returncode == 42


def test_s043_the_shim_answers_without_a_daemon(pair: Pair) -> None:
    """Last: it stops the daemon for a moment."""
    if not pair.is_real:
        pair.stack.stop()
        try:
            argv = [ours("pyctr"), "--address", pair.stack.address, "shim", "--id", "w1", "state"]
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20, env=pair.stack.environment)  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["status"] == 2
        finally:
            pair.stack.start()
    time.sleep(0.1)
    assert json.loads(pair("shim", "--id", "w1", "state").stdout)["status"] == 2
