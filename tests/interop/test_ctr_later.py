"""What ctr has since 1.6 (info, image inspect, sandboxes ...), on our daemon and on Debian's.

No Debian ctr knows these: the text is held by facts of containerd 2's ctr, numbers by what Debian's ctr says otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import parity, sandbox_shim
from support.stack import Stack, has_what_came_with_1_7

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(120)]

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000 UTC"


@pytest.fixture(params=["our", "real"])
def stack(request: pytest.FixtureRequest, busybox: str) -> Iterator[Stack]:
    """Each daemon, with busybox."""
    found: Stack = request.getfixturevalue(f"{request.param}_stack")
    found.ctr("image", "pull", busybox)
    yield found
    for name in found.ctr("container", "ls", "-q").stdout.split():
        found.ctr("task", "rm", "-f", name, check=False)
        found.ctr("container", "rm", name)


@pytest.mark.parametrize(
    "words", ["task ps l-0", "image check", "image ls", "container ls", "version", "leases ls"]
)
def test_json_is_json_and_other_formats_are_refused(stack: Stack, busybox: str, words: str) -> None:
    stack.ctr("run", "-d", busybox, "l-0", "sleep", "1000")
    argv = words.split()
    place = 2 if len(argv) > 1 else 1
    found = json.loads(stack.pyctr(*argv[:place], "--format", "json", *argv[place:]).stdout)
    assert found or words == "leases ls"
    if words == "task ps l-0":
        assert [row["pid"] for row in found] == [int(stack.ctr("task", "ls").stdout.split()[4])]
    none = ["name==nosuch"] if words == "image check" else []
    done = stack.pyctr(*argv[:place], "--format", "xml", *argv[place:], *none, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ctr: format must be ")


@pytest.mark.parametrize("kind", ["index", "manifest", "config", "layer", "snapshot"])
def test_an_image_that_is_not_whole_is_checked_as_ctr_does(stack: Stack, busybox: str, kind: str) -> None:
    check = ("image", "check", "--format", "json", f"name=={busybox}")
    (row,) = json.loads(stack.pyctr(*check).stdout)
    assert (row["status"], row["present_blobs"], row["blobs"], row["unpacked"]) == ("complete", 3, 3, True)
    if kind == "snapshot":
        top = stack.pyctr("image", "usage", busybox).stdout.split()[3]
        stack.ctr("snapshot", "rm", top)
    else:
        tree = stack.pyctr("image", "inspect", busybox).stdout
        stack.ctr("content", "rm", re.findall(rf"image\.{kind}\.\S+ @(sha256:\w+)", tree)[0])
    for quiet in ([], ["-q"]):
        real, ours = (stack.run(name, *check[:2], *quiet, check=False) for name in ("ctr", "pyctr"))
        assert (ours.returncode, ours.stdout) == (real.returncode, real.stdout)
        assert re.sub(r"time=\S+", "", ours.stderr) == re.sub(r"time=\S+", "", real.stderr)
    (row,) = json.loads(stack.pyctr(*check, check=False).stdout)
    assert (row["blobs"], row["size"] is None) == (
        (None, True) if kind in {"index", "manifest"} else (3, False)
    )


def test_info_is_what_the_daemon_says_of_itself(stack: Stack) -> None:
    server = json.loads(stack.pyctr("info").stdout)["server"]
    assert f"UUID: {server['uuid']}\n" in stack.ctr("version").stdout
    if stack.kind == "ours":
        assert server["pid"] == stack.pid()
        assert server["pidns"] == os.stat("/proc/self/ns/pid").st_ino


def test_without_deprecations_nothing_is_printed(stack: Stack) -> None:
    for words in ([], ["--format", "json"]):
        done = stack.pyctr("deprecations", "list", *words)
        assert (done.stdout, done.stderr) == ("", "")
    assert stack.pyctr("deprecations", "list", "--format", "x", check=False).returncode == 1


def test_an_image_is_shown_as_a_tree(stack: Stack, busybox: str) -> None:
    lines = stack.pyctr("image", "inspect", busybox).stdout.splitlines()
    index = next(
        line.split() for line in stack.ctr("image", "ls").stdout.splitlines() if line.startswith(busybox)
    )
    assert lines[0] == busybox
    assert re.fullmatch(rf"│    Created: {TIME}", lines[1])
    assert re.fullmatch(rf"│    Updated: {TIME}", lines[2])
    rest = [re.sub(r"sha256:\w{64} \(\d+ bytes\)", "D", line) for line in lines[3:]]
    oci = "application/vnd.oci.image"
    assert rest == [
        f"└── {oci}.index.v1+json @D",
        f"    ├── {oci}.manifest.v1+json @D",
        "    │   │    Platform: linux/amd64",
        f"    │   ├── {oci}.config.v1+json @D",
        f"    │   ├── {oci}.layer.v1.tar+gzip @D",
        f"    │   └── {oci}.layer.v1.tar+gzip @D",
        f"    └── {oci}.manifest.v1+json @D",
        "        │    Platform: linux/arm64",
        "        └──  Content does not exist locally, skipping",
    ]
    assert index[2] in lines[3]
    stack.ctr("image", "label", busybox, 'x=a"b')
    assert '│    Label "x": "a\\"b"' in stack.pyctr("image", "i", busybox).stdout
    stack.ctr("image", "label", busybox, "x=")


def test_the_documents_are_shown_as_they_are(stack: Stack, busybox: str) -> None:
    shown = stack.pyctr("image", "inspect", "--content", busybox).stdout
    manifest = re.search(r"manifest\.v1\+json @(sha256:\w+)", shown)
    assert manifest
    document = stack.ctr("content", "get", manifest[1]).stdout
    box = (
        shown.partition(f"@{manifest[1]}")[2]
        .partition("┌────────Content────────\n")[2]
        .partition("    │   │   └──")[0]
    )
    lines = box.splitlines()
    assert all(line.startswith("    │   │   │") for line in lines)
    assert json.loads("".join(line[13:] for line in lines)) == json.loads(document)
    assert "    │   │   ┌────────Labels─────────\n" in shown
    assert '    │   │   │"containerd.io/gc.ref.content.config": "sha256:' in shown


def test_usage_goes_from_the_last_layer_to_the_first(stack: Stack, busybox: str) -> None:
    lines = stack.pyctr("image", "usage", busybox).stdout.splitlines()
    known = stack.ctr("snapshot", "usage").stdout.splitlines()
    assert lines[0].split() == ["KEY", "SIZE", "INODES"]
    assert len(lines) == 3
    assert {tuple(line.split()) for line in lines[1:]} <= {tuple(line.split()) for line in known[1:]}
    parents = dict(line.split()[:2] for line in stack.ctr("snapshot", "ls").stdout.splitlines()[1:])
    assert parents[lines[1].split()[0]] == lines[2].split()[0]
    rows = json.loads(stack.pyctr("image", "usage", "--format", "json", busybox).stdout)
    assert [row["key"] for row in rows] == [line.split()[0] for line in lines[1:]]


def test_usage_of_what_is_not_unpacked_is_an_error(stack: Stack, busybox: str) -> None:
    done = stack.pyctr("image", "usage", "--snapshotter", "native", busybox, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ctr: image {busybox} isn't unpacked in snapshotter native\n"


def test_prune_leaves_what_containers_name(stack: Stack, busybox: str) -> None:
    stack.ctr("image", "tag", busybox, "later.example/a:1")
    stack.ctr("container", "create", busybox, "l-1")
    done = stack.pyctr("image", "prune")
    assert (
        'level=warning msg="No images pruned. `image prune` requires --all to be specified."' in done.stderr
    )
    done = stack.pyctr("image", "prune", "--all")
    assert r'level=info msg="deleted image: later.example/a:1\n"' in done.stderr
    assert stack.ctr("image", "ls", "-q").stdout == f"{busybox}\n"


def test_blobs_of_a_registry_need_no_daemon(stack: Stack, busybox: str) -> None:
    digests = stack.ctr("content", "ls", "-q").stdout.split()
    for digest in digests:
        command = stack.command("pyctr", "content", "fetch-blob", "--plain-http", busybox, digest)
        command[command.index(stack.address)] = "/nosuch.sock"
        done = subprocess.run(command, env=stack.environment, capture_output=True, check=True)
        assert f"sha256:{hashlib.sha256(done.stdout).hexdigest()}" == digest
    none = stack.pyctr("content", "fetch-blob", busybox, check=False)
    assert (none.returncode, none.stderr) == (1, "ctr: must specify digests\n")
    wrong = stack.pyctr("content", "fetch-blob", "--plain-http", busybox, "sha256:" + "7" * 64, check=False)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "not found" in wrong.stderr


def test_a_shim_says_its_state_and_ends_only_without_containers(stack: Stack, busybox: str) -> None:
    stack.ctr("run", "-d", busybox, "l-2", "sleep", "1000")
    state = json.loads(stack.pyctr("shim", "--id", "l-2", "state").stdout)
    other = json.loads(
        stack.pyctr("shim", "--id", "l-2", "state", "--task-id", "l-2", "--api-version", "2").stdout
    )
    assert state == other
    assert state["id"] == "l-2"
    stack.pyctr("shim", "--id", "l-2", "shutdown", "--api-version", "2")
    assert stack.ctr("task", "ls").stdout.count("RUNNING") == 1
    v3 = stack.pyctr("shim", "--id", "l-2", "state", "--api-version", "3", check=False)
    assert v3.returncode == 0 or stack.kind == "real"  # Debian's shim speaks version 2 only
    bad = stack.pyctr("shim", "--id", "l-2", "state", "--api-version", "4", check=False)
    assert (bad.returncode, bad.stderr) == (1, "ctr: api-version must be 2 or 3\n")
    name = hashlib.sha256(f"{stack.address}/default/l-2/debug".encode()).hexdigest()
    done = stack.pyctr("shim", "--id", "l-2", "pprof", "goroutines", check=False)
    assert done.returncode == 1
    assert f"dial unix /run/containerd/s/{name}: connect: no such file or directory" in done.stderr
    assert stack.pyctr("shim", "pprof", "heap", check=False).stderr == "ctr: container id must be provided\n"


def test_the_config_is_written_to_a_file(stack: Stack, busybox: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    stack.pyctr("run", "-d", "--dump-config", str(path), busybox, "l-3", "sleep", "1000")
    assert json.loads(path.read_text()) == json.loads(stack.ctr("container", "info", "--spec", "l-3").stdout)
    assert path.read_text().startswith('{\n  "ociVersion": "')
    done = stack.pyctr("run", "--dump-config", "", busybox, "l-4", "true", check=False)
    assert (done.returncode, done.stderr) == (1, "ctr: file name is required with --dump-config\n")


def test_privileged_without_the_hosts_devices(stack: Stack, busybox: str) -> None:
    flags = ("--privileged", "--privileged-without-host-devices")
    stack.pyctr("run", "-d", *flags, busybox, "l-5", "sleep", "1000")
    spec = json.loads(stack.ctr("container", "info", "--spec", "l-5").stdout)
    assert "CAP_SYS_ADMIN" in spec["process"]["capabilities"]["bounding"]
    assert spec["linux"]["resources"]["devices"][0]["allow"] is False
    assert "maskedPaths" not in spec["linux"]
    done = stack.pyctr("run", flags[1], busybox, "l-6", "true", check=False)
    assert done.stderr == "ctr: can't use 'privileged-without-host-devices' without 'privileged' specified\n"


def test_a_block_io_class(stack: Stack, busybox: str, tmp_path: Path) -> None:
    config = tmp_path / "blockio.yaml"
    config.write_text("Classes:\n  slow:\n  - Weight: 100\n")
    flags = ("--blockio-config-file", str(config), "--blockio-class")
    stack.pyctr("container", "create", *flags, "slow", busybox, "l-7", "true")
    spec = json.loads(stack.ctr("container", "info", "--spec", "l-7").stdout)
    assert spec["linux"]["resources"]["blockIO"] == {"weight": 100}
    done = stack.pyctr("run", *flags, "fast", busybox, "l-8", "true", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        'ctr: blockio-class error: no OCI BlockIO parameters for class "fast"\n',
    )
    assert stack.ctr("container", "ls", "-q").stdout == "l-7\n"


def test_what_is_unpacked_is_on_the_disk_where_that_is_asked_for(stack: Stack, busybox: str) -> None:
    stack.ctr("image", "rm", "--sync", busybox)
    stack.pyctr("image", "pull", "--sync-fs", "--plain-http", busybox)
    if stack.kind == "ours":
        return
    stack.ctr("image", "rm", "--sync", busybox)
    command = stack.command("pyctr", "image", "pull", "--sync-fs", "--plain-http", busybox)
    traced = ["strace", "-f", "-e", "trace=sync", "-o", f"{stack.root}/sync.trace", *command]
    subprocess.run(traced, env=stack.environment, check=True, stdout=subprocess.DEVNULL)
    assert "sync()" in Path(f"{stack.root}/sync.trace").read_text()


@pytest.mark.parametrize("where", ["--local", "--local=false"])
def test_an_export_that_fails_removes_its_file_and_no_device(
    stack: Stack, busybox: str, tmp_path: Path, where: str
) -> None:
    if where == "--local=false" and not has_what_came_with_1_7(stack):
        where = "--local"
    full = tmp_path / "full"
    os.mknod(full, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
    done = stack.pyctr("image", "export", where, str(full), busybox, check=False)
    assert (done.returncode, full.is_char_device()) == (1, True)
    assert "no space left on device" in done.stderr


def test_the_spec_of_a_platform(stack: Stack) -> None:
    real = parity.shown_by_ctr(stack.ctr("oci", "spec").stdout)
    assert stack.pyctr("oci", "spec", "--platform", "linux/arm64").stdout == real
    done = stack.pyctr("oci", "spec", "--platform", "windows/amd64", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "ctr: failed to generate spec: windows is not supported: not implemented\n",
    )


def test_a_daemon_says_what_a_runtime_is(stack: Stack) -> None:
    done = stack.pyctr("plugins", "inspect-runtime", "--runc-binary", "other", check=False)
    if stack.kind == "real":
        assert done.returncode == 1
        assert done.stderr.startswith(
            "ctr: the daemon can't ask a runtime what it is: unknown method PluginInfo"
        )
        return
    document = json.loads(done.stdout)
    assert document["Name"] == "io.containerd.pyrunc.v2"
    assert document["Version"]["Version"]
    assert document["Options"] == {"binary_name": "other"}
    old = shutil.which("containerd-shim-runc-v2", path=stack.environment["PATH"])
    done = stack.pyctr("plugins", "inspect-runtime", "--runtime", str(old), check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ctr: failed to run [{old} -info]: exit status ")


def test_erofs_is_refused(stack: Stack, busybox: str) -> None:
    for words in (
        ["convert", "--erofs", "raw", busybox, "x:1"],
        ["build-erofs-cache", busybox, "/tmp/never"],
    ):
        done = stack.pyctr("image", *words, check=False)
        assert done.returncode == 1
        assert done.stderr.endswith("layers as EROFS images are not supported: not implemented\n")


@pytest.mark.parametrize("words", ["ls", "info x", "run /dev/null x", "rm x"])
def test_a_daemon_without_sandboxes_says_so(real_stack: Stack, words: str, tmp_path: Path) -> None:
    config = tmp_path / "pod.json"
    config.write_text("{}")
    done = real_stack.pyctr("sandboxes", *words.replace("/dev/null", str(config)).split(), check=False)
    made = real_stack.pyctr("container", "create", "--sandbox", "x", "any", "c", check=False)
    if has_what_came_with_1_7(real_stack):
        assert "the daemon has no sandboxes" not in done.stderr + made.stderr
        return
    assert "the daemon has no sandboxes: " in done.stderr
    assert done.returncode == (0 if words == "rm x" else 1)
    assert made.stderr.startswith("ctr: the daemon has no sandboxes: ")


class Pods:
    """Our daemon and a runtime whose shim knows sandboxes."""

    def __init__(self, root: Path) -> None:
        self.stack = Stack(root / "d", kind="ours")
        self.runtime = str(sandbox_shim.script(root / "containerd-shim-sandboxed-v1"))
        self.config = root / "pod.json"
        self.config.write_text('{"ociVersion":"1.0.2","hostname":"pod"}')
        self.state = root / "d/s/io.containerd.sandbox.controller.v1.shim/default"

    def run(self, sandbox_id: str, **options: bool) -> subprocess.CompletedProcess[str]:
        return self.stack.pyctr(
            "sandboxes", "run", "--runtime", self.runtime, str(self.config), sandbox_id, **options
        )  # type: ignore[arg-type]


@pytest.fixture
def pods() -> Iterator[Pods]:
    root = Path(tempfile.mkdtemp(prefix="pod", dir="/tmp"))
    pods = Pods(root)
    pods.stack.start()
    yield pods
    pods.stack.clean()
    shutil.rmtree(root)  # noqa: TID251 - the test's own folder


def test_a_sandbox_from_run_to_rm(pods: Pods) -> None:
    stack = pods.stack
    assert stack.pyctr("sandboxes", "ls").stdout == "ID CREATED RUNTIME \n"
    assert pods.run("s1").stdout == "s1\n"
    assert (pods.state / "s1/config.json").read_bytes() == pods.config.read_bytes()
    listed = stack.pyctr("sandbox", "ls").stdout.splitlines()
    assert re.fullmatch(rf"s1 {TIME} {re.escape(pods.runtime)} ", listed[1])
    (row,) = json.loads(stack.pyctr("s", "ls", "--format", "json", "--filters", "id==s1").stdout)
    assert row["id"] == "s1"
    info = json.loads(stack.pyctr("sb", "info", "s1").stdout)
    assert list(info) == [
        "ID",
        "Labels",
        "Runtime",
        "Spec",
        "Sandboxer",
        "CreatedAt",
        "UpdatedAt",
        "Extensions",
    ]
    assert (info["Labels"], info["Extensions"]) == (None, {})
    assert info["Runtime"] == {"Name": pods.runtime, "Options": {"type_url": "google.protobuf.Empty"}}
    assert info["Spec"]["type_url"] == "types.containerd.io/opencontainers/runtime-spec/1/Spec"
    again = pods.run("s1", check=False)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("ctr: failed to create new sandbox: ")
    assert "already exists" in again.stderr
    gone = stack.pyctr("sandboxes", "rm", "none", "s1")
    assert 'level=error msg="failed to load sandbox none"' in gone.stderr
    assert 'level=info msg="deleted: s1"' in gone.stderr
    assert stack.pyctr("sandboxes", "ls").stdout.count("\n") == 1
    assert not list(pods.state.glob("s1"))


def test_a_container_in_a_sandbox(pods: Pods) -> None:
    stack = pods.stack
    pods.run("s1")
    folder = pods.config.parent / "rootfs"
    folder.mkdir()
    stack.pyctr("container", "create", "--sandbox", "s1", "--rootfs", str(folder), "c1", "true")
    stack.pyctr("task", "start", "--detach", "--null-io", "c1", check=False)
    asked = [json.loads(line)[0] for line in (pods.state / "calls").read_text().splitlines()]
    assert "Create" in asked  # the sandbox's shim was told to make the task
    missing = stack.pyctr("run", "--sandbox", "s2", "--rootfs", str(folder), "c2", "true", check=False)
    assert (missing.returncode, missing.stderr) == (
        1,
        'ctr: sandbox "s2" in namespace "default": not found\n',
    )
    stack.pyctr("task", "rm", "-f", "c1", check=False)
    stack.pyctr("container", "rm", "c1", check=False)
    stack.pyctr("sandboxes", "rm", "-f", "s1")


def test_a_sandbox_that_cannot_be_made_leaves_no_record(pods: Pods) -> None:
    stack = pods.stack
    done = stack.pyctr(
        "sandboxes", "run", "--runtime", "io.containerd.nosuch.v1", str(pods.config), "s1", check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "ctr: failed to create new sandbox: failed to create sandbox with shim sandboxer: "
    )
    assert stack.pyctr("sandboxes", "ls").stdout.count("\n") == 1
    pods.config.write_text("[1]")
    done = stack.pyctr("sandboxes", "run", str(pods.config), "s1", check=False)
    assert done.stderr == "ctr: failed to parse sandbox config: not an object\n"
    done = stack.pyctr("sandboxes", "run", "/nosuch", "s1", check=False)
    assert done.stderr == "ctr: failed to read sandbox config: open /nosuch: no such file or directory\n"
