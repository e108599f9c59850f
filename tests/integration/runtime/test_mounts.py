"""Mounts, devices, masks, root.

Spec: runtime-spec config.md#mounts; walkthrough S031 S035 S036
"""

from __future__ import annotations

import pytest

from support.runtime import differs, ours_only


def mountinfo(text: str) -> dict[str, tuple[str, str]]:
    """Mount point -> (options, fs type)."""
    found = {}
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        if tail:
            found[head.split()[4]] = (head.split()[5], tail.split()[0])
    return found


def test_default_mounts_have_their_options(runtime, bundle):
    found = mountinfo(runtime.run(bundle.args("cat", "/proc/self/mountinfo").build()).out)
    assert found["/proc"][1] == "proc"
    assert found["/dev"] == ("rw,nosuid", "tmpfs")
    assert found["/dev/pts"] == ("rw,nosuid,noexec,relatime", "devpts")
    assert found["/dev/shm"] == ("rw,nosuid,nodev,noexec,relatime", "tmpfs")
    assert found["/dev/mqueue"] == ("rw,nosuid,nodev,noexec,relatime", "mqueue")
    assert found["/sys"] == ("ro,nosuid,nodev,noexec,relatime", "sysfs")
    assert found["/"][0].startswith("ro")


@pytest.mark.requires("cgroup_v1")
def test_cgroup_mount_shows_the_containers_own(runtime, bundle):
    done = runtime.run(
        bundle.sh(
            "cat /sys/fs/cgroup/pids/cgroup.procs; ls /sys/fs/cgroup; touch /sys/fs/cgroup/pids/x"
        ).build()
    )
    assert "1" in done.out.split()
    assert {"cpu", "memory", "pids"} <= set(done.out.split())
    assert done.code != 0


@pytest.mark.requires("cgroup_v1")
def test_hierarchies_are_called_as_on_the_host(runtime, bundle):
    bundle.with_namespace("cgroup")
    lines = runtime.run(bundle.args("cat", "/proc/self/mountinfo").build()).out.splitlines()
    sources = {line.split()[4]: line.split(" - ")[1].split()[1] for line in lines}
    assert sources["/sys/fs/cgroup/pids"] == "cgroup"
    assert sources.get("/sys/fs/cgroup/systemd", "systemd") == "systemd"


@pytest.mark.parametrize("options", [["bind"], ["rbind", "rw"], ["bind", "ro"], ["rbind", "rro"]])
def test_bind_mount_of_a_directory(runtime, bundle, short_tmp, options):
    (short_tmp / "src").mkdir()
    (short_tmp / "src/f").write_text("bound\n")
    bundle.mount("/made/here", "bind", str(short_tmp / "src"), *options)
    done = runtime.run(bundle.writable().sh("cat /made/here/f; touch /made/here/g").build())
    assert done.out == "bound\n"
    assert (short_tmp / "src/g").exists() != bool({"ro", "rro"} & set(options))


def test_bind_mount_of_a_file(runtime, bundle, short_tmp):
    (short_tmp / "f").write_text("file\n")
    bundle.mount("/etc/new/f", "bind", str(short_tmp / "f"), "bind", "ro")
    done = runtime.run(bundle.sh("cat /etc/new/f; echo x > /etc/new/f").build())
    assert done.out == "file\n"
    assert "Read-only" in done.err


def test_relative_bind_source_is_in_the_bundle(runtime, bundle):
    (bundle.path / "data").mkdir()
    (bundle.path / "data/f").write_text("mine\n")
    bundle.mount("/mnt", "none", "data", "bind")
    assert runtime.run(bundle.args("cat", "/mnt/f").build()).out == "mine\n"


def test_bind_takes_nosuid_nodev_noexec(runtime, bundle, short_tmp):
    (short_tmp / "src").mkdir()
    bundle.mount("/mnt", "bind", str(short_tmp / "src"), "bind", "nosuid", "nodev", "noexec", "noatime")
    found = mountinfo(runtime.run(bundle.args("cat", "/proc/self/mountinfo").build()).out)
    assert set(found["/mnt"][0].split(",")) >= {"nosuid", "nodev", "noexec", "noatime"}


def test_tmpfs_with_options_and_readonly(runtime, bundle):
    bundle.mount("/mnt", "tmpfs", "tmpfs", "size=64k", "mode=700", "ro")
    done = runtime.run(bundle.sh("stat -c %a /mnt; df -k /mnt | tail -1; touch /mnt/x").build())
    assert done.out.split()[0] == "700" or differs("a tmpfs has the mode of its options")
    assert "64" in done.out.split()
    assert "Read-only" in done.err


def test_tmpcopyup_copies_what_was_there(runtime, bundle):
    (bundle.rootfs / "data/sub").mkdir(parents=True)
    (bundle.rootfs / "data/sub/f").write_text("copied\n")
    (bundle.rootfs / "data/link").symlink_to("sub/f")
    bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup")
    assert (
        runtime.run(bundle.sh("cat /data/link && touch /data/new && echo fine").build()).out
        == "copied\nfine\n"
    )
    assert not (bundle.rootfs / "data/new").exists()


def test_propagation_of_a_mount(runtime, bundle, short_tmp):
    (short_tmp / "src").mkdir()
    bundle.mount("/mnt", "bind", str(short_tmp / "src"), "rbind", "rshared")
    lines = runtime.run(bundle.args("cat", "/proc/self/mountinfo").build()).out.splitlines()
    assert any(" /mnt " in line and "shared:" in line for line in lines)


def test_an_unknown_filesystem_fails(runtime, bundle):
    bundle.mount("/mnt", "nosuchfs", "x")
    done = runtime.run(bundle.build())
    assert done.code == 1
    assert 'error mounting "x" to rootfs at "/mnt"' in done.err.replace('\\"', '"')
    assert "no such device" in done.err


def test_masked_paths_are_hidden_and_readonly_paths_hold(runtime, bundle):
    (bundle.rootfs / "secret").mkdir()
    (bundle.rootfs / "secret/f").write_text("x")
    (bundle.rootfs / "hidden").write_text("x")
    bundle.linux["maskedPaths"] += ["/secret", "/hidden", "/nosuch"]
    bundle.linux["readonlyPaths"] += ["/tmp", "/nosuch"]
    done = runtime.run(
        bundle.writable()
        .sh("ls /secret; cat /hidden; touch /tmp/x; echo 1 > /proc/sys/kernel/domainname")
        .build()
    )
    assert done.out == ""
    assert done.err.count("Read-only file system") == 2


def test_devices_and_links(runtime, bundle):
    bundle.linux["devices"] = [
        {"path": "/dev/spam", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6}
    ]
    script = "for d in null zero full random urandom tty spam; do stat -c '%n %t:%T %a %u %g' /dev/$d; done; readlink /dev/fd; readlink /dev/ptmx; echo x > /dev/null"
    lines = runtime.run(bundle.sh(script).build()).out.splitlines()
    assert lines[0] == "/dev/null 1:3 666 0 0"
    assert "/dev/tty 5:0 666 0 0" in lines
    assert "/dev/spam 1:3 640 5 6" in lines
    assert lines[-2:] == ["/proc/self/fd", "pts/ptmx"]


def test_root_is_writable_when_the_config_says_so(runtime, bundle):
    assert runtime.run(bundle.writable().sh("touch /x && echo fine").build()).out == "fine\n"


def test_cwd_is_made(runtime, bundle):
    bundle.process["cwd"] = "/a/b/c"
    assert runtime.run(bundle.writable().args("pwd").build()).out == "/a/b/c\n"


def test_mount_through_a_dangling_link_stays_in_the_rootfs(runtime, bundle):
    (bundle.rootfs / "var").mkdir()
    (bundle.rootfs / "var/run").symlink_to("/run")
    bundle.mount("/var/run/x", "tmpfs", "tmpfs")
    found = mountinfo(runtime.run(bundle.args("cat", "/proc/self/mountinfo").build()).out)
    assert "/run/x" in found


def test_no_pivot(runtime, bundle):
    done = runtime("run", "--no-pivot", "--bundle", str(bundle.sh("ls /; cat /proc/1/comm").build()), "c")
    assert "bin" in done.out.split()
    assert done.code == 0


def test_cgroup_namespace(runtime, bundle):
    done = runtime.run(bundle.with_namespace("cgroup").args("cat", "/proc/self/cgroup").build())
    assert all(line.endswith(":/") for line in done.out.split())


@ours_only("time namespaces")
def test_time_namespace_with_offsets(runtime, bundle):
    bundle.with_namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1_000_000}}
    done = runtime.run(bundle.args("cat", "/proc/uptime").build())
    assert float(done.out.split()[0]) > 1_000_000
