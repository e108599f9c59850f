"""Attacks on a runtime, by their number in the catalogue of advisories (CVE numbers in each test's words)."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from support import leaks
from support.runtime import differs, ours_only


@pytest.fixture
def canary(short_tmp):
    """A host folder that must stay as it is."""
    folder = short_tmp / "canary"
    folder.mkdir()
    (folder / "secret").write_text("SECRET\n")
    before = seen(folder)
    yield folder
    assert seen(folder) == before


def seen(folder: Path) -> list[tuple[object, ...]]:
    """All that may not change in a folder: names, owners, modes, times of every change, contents."""
    found = []
    for path in (folder, *sorted(folder.iterdir())):
        about = path.lstat()
        text = path.read_text() if path.is_file() else ""
        found.append((path.name, about.st_mode, about.st_uid, about.st_gid, about.st_ctime_ns, text))
    return found


@pytest.fixture
def kernel():
    """Every setting of the kernel that can be read, /proc/sys/kernel, which must stay as it is."""
    before = leaks.kernel_settings()
    yield
    assert leaks.kernel_settings() == before


def test_r01_the_interpreter_cannot_be_reopened_for_writing(runtime, bundle):
    """CVE-2019-5736: /proc/PID/exe of the waiting init."""
    runtime.create(bundle.build())
    with pytest.raises(OSError, match=r"Text file busy|Read-only|not permitted"):
        os.open(f"/proc/{runtime.pid()}/exe", os.O_WRONLY)


@pytest.mark.parametrize("number", range(3, 20))
def test_r02_cwd_through_a_leaked_descriptor_is_refused(runtime, bundle, canary, number):
    """CVE-2024-21626."""
    bundle.process["cwd"] = f"/proc/self/fd/{number}"
    done = runtime.run(
        bundle.writable().sh(f"cat ../../../..{canary}/secret; cat ../../..{canary}/secret").build()
    )
    assert "SECRET" not in done.out
    assert done.code != 0


@pytest.mark.parametrize("number", range(3, 20))
def test_r02_exec_cwd_through_a_leaked_descriptor_is_refused(runtime, bundle, canary, number):
    """CVE-2024-21626, by exec and by an image's symlink."""
    (bundle.rootfs / "w").symlink_to(f"/proc/self/fd/{number}")
    runtime.start_detached(bundle.args("sleep", "100").build())
    for cwd in (f"/proc/self/fd/{number}", "/w"):
        done = runtime("exec", "--cwd", cwd, "c", "cat", f"../../../..{canary}/secret")
        assert "SECRET" not in done.out
        assert done.code != 0


def test_r03_a_waiting_init_holds_only_the_allowed_descriptors(runtime, bundle):
    read_fd, write_fd = os.pipe()
    os.set_inheritable(read_fd, True)
    try:
        runtime.detached("create", "--bundle", str(bundle.build()), "c", close_fds=False)
    finally:
        os.close(read_fd)
        os.close(write_fd)
    allowed = re.compile(
        r"/dev/null|/|/proc|/proc/\d+|anon_inode:\[.*\]|socket:\[\d+\]|pipe:\[\d+\]|.*/exec\.fifo|.*/detached\.log"
    )
    folder = f"/proc/{runtime.pid()}/fd"
    links = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
    assert [link for link in links if not allowed.fullmatch(link)] == []


def test_r03_a_process_gets_only_stdio(runtime, bundle):
    script = "ls /proc/self/fd | wc -l; ls -l /proc/$$/fd"
    assert runtime.run(bundle.sh(script).build()).out.split()[0] == "4"  # 0, 1, 2 and the listing's own
    runtime.start_detached(bundle.args("sleep", "100").build(), "d")
    assert runtime.ok("exec", "d", "sh", "-c", script).out.split()[0] == "4"


def test_r04_a_waiting_init_is_not_dumpable(runtime, bundle):
    """CVE-2016-9962."""
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    runtime.create(bundle.build())
    assert os.stat(f"/proc/{runtime.pid()}/fd").st_uid == 0


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_r07_proc_or_sys_as_a_symlink_is_refused(runtime, bundle, name):
    """CVE-2019-19921, CVE-2023-27561."""
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / "other").mkdir()
    (bundle.rootfs / name).symlink_to("/other")
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "must be mounted on ordinary directory" in done.err


@ours_only("security R07: a tmpfs over /proc is refused")
def test_r07_tmpfs_over_proc_is_refused(runtime, bundle):
    bundle.mount("/proc", "tmpfs", "tmpfs")
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "cannot be mounted because it is not of type proc" in done.err


def test_r07_mounts_inside_proc_are_refused(runtime, bundle, short_tmp):
    bundle.mount("/proc/self/attr", "bind", str(short_tmp), "bind")
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "cannot be mounted because it is inside /proc" in done.err


WRITTEN_BY_THE_RUNTIME = (
    "/proc/thread-self",
    "/proc/thread-self/attr",
    "/proc/self",
    "/proc/self/attr",
    "/proc/self/attr/exec",
    "/proc/1",
    "/proc/sys",
    "/proc/sys/kernel",
    "/proc/sys/net/ipv4",
    "/proc/sysrq-trigger",
)


@ours_only("security R10: no mount may stand where the runtime writes")
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
@pytest.mark.parametrize("place", WRITTEN_BY_THE_RUNTIME)
def test_r10_no_mount_stands_where_the_runtime_writes(runtime, bundle, canary, kernel, place, kind):
    """CVE-2025-52881: a write to a label or a sysctl would go elsewhere."""
    bound = canary.parent / "bound"
    bound.mkdir()
    for name in ("exec", "ip_forward"):
        (bound / name).symlink_to(canary / "secret")
    if kind == "tmpfs":
        bundle.mount(place, "tmpfs", "tmpfs")
    else:
        bundle.mount(place, "bind", str(bound), "bind")
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    done = runtime.run(bundle.sh("cat /proc/sys/net/ipv4/ip_forward").build())
    assert done.code == 1
    assert "inside /proc" in done.err or "no such file" in done.err or "not a directory" in done.err


@ours_only("security R10: no mount may stand where the runtime writes")
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
@pytest.mark.parametrize(
    ("link", "below"), [("/proc", ""), ("/proc/sys/net", "/ipv4"), ("/proc/self", "/attr")]
)
def test_r10_a_link_leads_no_mount_into_proc(runtime, bundle, canary, kernel, link, below, kind):
    """The image's own link is where the mount is to stand."""
    (bundle.rootfs / "data").symlink_to(link)
    bundle.mount(
        f"/data{below}", kind, str(canary) if kind == "bind" else "tmpfs", *(["bind"] * (kind == "bind"))
    )
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    done = runtime.run(bundle.args("true").build())
    assert done.code == 1
    assert "cannot be mounted because it is inside /proc" in done.err


def test_r10_a_procfs_elsewhere_takes_mounts(runtime, bundle, short_tmp):
    bundle.mount("/mnt", "bind", "/proc", "bind")
    bundle.mount("/mnt/sys/net", "tmpfs", "tmpfs")
    assert runtime.run(bundle.args("ls", "/mnt/sys/net").build()).out == ""


@ours_only("a root without /proc runs")
def test_r10_a_procfs_elsewhere_takes_mounts_in_a_root_without_proc(runtime, bundle):
    bundle.spec["mounts"] = [entry for entry in bundle.spec["mounts"] if entry["destination"] != "/proc"]
    (bundle.rootfs / "proc").rmdir()
    bundle.mount("/mnt", "bind", "/proc", "bind")
    bundle.mount("/mnt/sys/net", "tmpfs", "tmpfs")
    done = runtime.run(bundle.args("ls", "/mnt/sys/net").build())
    assert (done.code, done.out) == (0, ""), done


@ours_only("security R08: masks don't trust the image's /dev/null")
def test_r08_masked_paths_do_not_trust_the_images_null(runtime, bundle, canary):
    """CVE-2025-31133."""
    bundle.spec["mounts"] = [
        entry for entry in bundle.spec["mounts"] if not entry["destination"].startswith("/dev")
    ]
    (bundle.rootfs / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    (bundle.rootfs / "hidden").write_text("x")
    bundle.linux["maskedPaths"] = ["/hidden"]
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    done = runtime.run(bundle.writable().sh("stat -c %t:%T /hidden; echo x > /hidden").build())
    assert done.code == 1 or done.out == "1:3\n"
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


CONSOLE_PLACES = ("dev/console", "dev/pts/0", "dev/pts/1", "dev/ptmx", "dev/pts", "dev/tty")


@pytest.fixture
def run_with_terminal(runtime, short_tmp):
    """`run(bundle, terminal)`: to the end, without one or on a pseudo-terminal of the caller; what it printed."""

    def run(path: Path, terminal: bool) -> str:
        argv = runtime.argv("run", "--bundle", str(path), "c")
        if not terminal:
            done = runtime.run(path)
            return done.out + done.err
        master, slave = os.openpty()
        try:
            with (short_tmp / "err").open("w+") as err:
                subprocess.run(argv, stdin=slave, stdout=slave, stderr=err, timeout=30, check=False)
                os.close(slave)
                os.set_blocking(master, False)
                try:
                    text = os.read(master, 65536).decode()
                except OSError:
                    text = ""
                return text + (short_tmp / "err").read_text()
        finally:
            os.close(master)

    return run


@ours_only("security R09: a symlink at /dev/console is not followed")
@pytest.mark.parametrize("target", ["pwn", "secret"])
@pytest.mark.parametrize("place", CONSOLE_PLACES)
@pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
def test_r09_a_console_symlink_is_not_followed(
    runtime, bundle, canary, run_with_terminal, terminal, place, target
):
    """CVE-2025-52565: the image has its own /dev, in which a name of the terminal leads to the host."""
    # What the image has below /dev/pts and for /dev/ptmx counts only without a devpts of the container's.
    gone = ("/dev", "/dev/pts") if place.startswith("dev/pt") else ("/dev",)
    bundle.spec["mounts"] = [entry for entry in bundle.spec["mounts"] if entry["destination"] not in gone]
    (bundle.rootfs / "dev/pts").mkdir()
    link = bundle.rootfs / place
    if place == "dev/pts":
        link.rmdir()
    link.symlink_to(canary / target)
    bundle.process["terminal"] = terminal
    text = run_with_terminal(
        bundle.writable().sh("echo ran; head -c 9 /dev/console < /dev/null").build(), terminal
    )
    assert "SECRET" not in text
    assert "ran" in text or "level=error" in text
    assert not (canary / "pwn").exists()


@ours_only("security R11: /dev as a symlink is refused")
def test_r11_dev_as_a_symlink_is_refused(runtime, bundle, canary):
    """CVE-2026-41579."""
    bundle.spec["mounts"] = [
        entry for entry in bundle.spec["mounts"] if not entry["destination"].startswith("/dev")
    ]
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").symlink_to(f"../../{canary.name}")
    assert runtime.run(bundle.writable().build()).code == 1


def test_r12_stdio_files_of_the_host_keep_their_owner(runtime, bundle, short_tmp):
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    out = short_tmp / "detached.log"
    runtime.start_detached(bundle.args("sleep", "100").build())
    assert out.stat().st_uid == 0 or differs("security R12: a host's file as stdio keeps its owner")
    assert os.stat("/dev/null").st_uid == 0


def test_r13_inheritable_capabilities_are_empty(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    for words in (["exec", "c"], ["exec", "--cap", "CAP_SYS_ADMIN", "c"]):
        assert "0000000000000000" in runtime.ok(*words, "grep", "CapInh", "/proc/self/status").out


def test_r15_long_values_are_whole_or_refused(runtime, bundle):
    bundle.spec["annotations"] = {"big": "x" * 200_000}
    bundle.linux["namespaces"] = [item for item in bundle.linux["namespaces"] if item["type"] != "network"]
    runtime.create(bundle.build())
    assert runtime.state()["annotations"]["big"] == "x" * 200_000
    bundle.with_namespace("network", "/" + "n" * 70_000)
    assert runtime("create", "--bundle", str(bundle.build()), "d").code == 1


def test_r18_the_session_keyring_is_its_own(runtime, bundle):
    with open("/proc/keys") as file:
        host = file.read()
    bundle.linux["maskedPaths"] = []
    done = runtime.run(bundle.args("cat", "/proc/keys").build())
    assert done.code == 0
    assert "_ses.c" in done.out or not host


HOSTILE_IDS = (
    "..",
    ".",
    "../../x",
    "a/b",
    "/etc",
    "a b",
    "a\nb",
    "é",
    "a;b",
    "$x",
    "",
    "a" * 1025,
    "a\\b",
    "a*",
)


@pytest.mark.parametrize("id", HOSTILE_IDS)
@pytest.mark.parametrize("verb", ["create", "delete", "delete --force", "exec", "state", "kill", "start"])
def test_r19_hostile_ids_are_refused(runtime, bundle, canary, id, verb):
    if len(id) > 1024 and differs("ids have at most 1024 bytes"):
        pytest.skip("stated difference: ids have at most 1024 bytes")
    path = bundle.build()
    words = verb.split()
    more = ["true"] if verb == "exec" else []
    done = runtime(*words, *(["--bundle", str(path)] if verb == "create" else []), id, *more)
    assert done.code != 0 or verb == "delete --force", done
    assert (path / "config.json").exists()
    assert (runtime.root.parent / "canary/secret").exists()


@ours_only("security R20: cgroupsPath with .. is refused")
def test_r20_cgroup_paths_do_not_climb(runtime, bundle):
    bundle.linux["cgroupsPath"] = "/a/../../x"
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert "must not contain .." in done.err


def test_r20_exec_cgroup_does_not_climb(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    assert runtime("exec", "--cgroup", "../..", "c", "true").code == 255


def test_r22_a_bind_onto_a_symlink_stays_in_the_rootfs(runtime, bundle, canary, short_tmp):
    (short_tmp / "f").write_text("mine\n")
    (bundle.rootfs / "f").symlink_to(canary / "x")
    bundle.mount("/f", "bind", str(short_tmp / "f"), "bind")
    assert runtime.run(bundle.writable().args("cat", "/f").build()).out == "mine\n"


def test_r25_a_file_that_denies_a_group_denies_it(runtime, bundle):
    secret = bundle.rootfs / "secret"
    secret.write_text("SECRET")
    os.chown(secret, 0, 1001)
    secret.chmod(0o707)
    bundle.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [2000]}
    assert "SECRET" not in runtime.run(bundle.args("cat", "/secret").build()).out


@ours_only("security R26: --no-pivot leaves no full procfs")
def test_r26_no_pivot_leaves_no_unmasked_procfs(runtime, bundle):
    bundle.capabilities("CAP_SYS_ADMIN")
    path = bundle.sh("unshare -U -r -m -p -f mount -t proc proc /mnt && echo mounted").build()
    assert "mounted" not in runtime("run", "--no-pivot", "--bundle", str(path), "c").out


def test_r27_signals_are_as_after_login(runtime, bundle):
    done = runtime.run(bundle.args("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status").build())
    assert signals_are_default(done.out)
    runtime.start_detached(bundle.args("sleep", "100").build())
    done = runtime.ok("exec", "c", "grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")
    assert signals_are_default(done.out)


def signals_are_default(status: str) -> bool:
    """None blocked, none ignored; runc lets those through that this run was told to ignore (by make, or nohup)."""
    blocked, ignored = (int(word, 16) for word in status.split()[1::2])
    caller = Path("/proc/self/status").read_text().partition("SigIgn:")[2].split()[0]
    if ignored and ignored & ~int(caller, 16) == 0:
        return not blocked and differs("security R27: signals the caller ignores are not ignored inside")
    return not blocked and not ignored


def test_r27_signals_that_posix_spawn_ignores_are_not_ignored_inside(runtime, bundle, short_tmp):
    argv = runtime.argv(
        "run", "--bundle", str(bundle.args("grep", "SigIgn", "/proc/self/status").build()), "c"
    )
    out = short_tmp / "out"
    to_out = (os.POSIX_SPAWN_OPEN, 1, str(out), os.O_WRONLY | os.O_CREAT, 0o600)
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=[to_out])
    assert os.waitpid(pid, 0)[1] == 0
    ignored = int(out.read_text().split()[1], 16)
    assert ignored == 0 or differs("security R27: signals the caller ignores are not ignored inside")


@ours_only("ambiguous or malformed JSON is refused")
@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"process": {"user": {"uid": 4294967296}}}',
        '{"x": NaN}',
        "[" * 100_000,
        '{"hostname": "a\\u0000b"}',
    ],
)
def test_documents_that_two_readers_would_read_differently_are_refused(runtime, bundle, text):
    path = bundle.build()
    (path / "config.json").write_text(text)
    done = runtime.run(path)
    assert done.code == 1
    assert "Traceback" not in done.err


def test_a_volume_that_holds_a_host_bind_survives_delete(runtime, bundle, canary):
    bundle.mount("/mnt", "bind", str(canary), "rbind")
    runtime.start_detached(bundle.args("sleep", "100").build())
    runtime.ok("delete", "--force", "c")
    assert stat.S_ISDIR(canary.stat().st_mode)


@ours_only("a runtime started in a chroot keeps to it")
def test_exec_from_a_chroot_stays_in_the_container(runtime, bundle, short_tmp):
    """pivot_root in a chroot swaps the chroot's root only; who joins the namespace must not stand in the host's."""
    path = bundle.args("sleep", "100").build()
    jail = short_tmp / "jail"
    jail.mkdir()
    steps = [
        f"mount --rbind / {jail}",
        f"chroot {jail} {' '.join(runtime.argv())} run -d --bundle {path} c </dev/null >/dev/null",
        f"chroot {jail} {' '.join(runtime.argv())} exec c ls /",
        f"chroot {jail} {' '.join(runtime.argv())} delete --force c",
    ]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", "\n".join(steps)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(os.listdir(path / "rootfs"))
