"""Layers applied to directories: what they hold, and what they try."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tarfile  # noqa: TID251 - another program's tar writer is the judge of our reader

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontainerd.lib import errdefs
from pycontainerd.lib.archive.apply import apply_layer
from support import tarball as t

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")


@pytest.fixture
def target(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary/secret").write_text("secret")
    yield root
    assert sorted(os.listdir(tmp_path / "canary")) == ["secret"]
    assert (tmp_path / "canary/secret").read_text() == "secret"


def apply(target, data: bytes, *, overlay: bool = False, lower=(), limit: int = 0):
    blob = target.parent / "blob"
    blob.write_bytes(data)
    fds = [os.open(path, os.O_RDONLY) for path in (blob, target, *lower)]
    try:
        return apply_layer(fds[0], fds[1], overlay=overlay, lower_fds=fds[2:], limit_bytes=limit)
    finally:
        for fd in fds:
            os.close(fd)


def tree(root) -> list[str]:
    return sorted(os.path.relpath(os.path.join(d, n), root) for d, ds, fs in os.walk(root) for n in ds + fs)


def test_files_directories_and_links_arrive_with_mode_and_time(target):
    layer = t.directory(b"etc/", mode=0o700, mtime=5) + t.file(b"etc/a", b"hello", mode=0o4755, mtime=7)
    layer += t.symlink(b"etc/b", b"/etc/a") + t.hardlink(b"etc/c", b"etc/a") + t.end()
    apply(target, layer)
    assert (target / "etc/a").read_bytes() == b"hello"
    assert stat.S_IMODE((target / "etc/a").stat().st_mode) == 0o4755
    assert (target / "etc/a").stat().st_mtime == 7
    assert (target / "etc").stat().st_mtime == 5
    assert os.readlink(target / "etc/b") == "/etc/a"
    assert (target / "etc/c").stat().st_nlink == 2


def test_diff_id_is_the_digest_of_the_uncompressed_stream_with_its_tail(target):
    raw = t.file(b"a", b"x") + t.end() + bytes(4096)
    applied = apply(target, t.gzipped(raw))
    assert applied.diff_id == "sha256:" + hashlib.sha256(raw).hexdigest()
    assert applied.size_bytes == len(raw)


def test_several_gzip_members_are_one_stream(target):
    raw = t.file(b"a", b"x" * 3000) + t.end()
    apply(target, t.gzipped(raw[:700]) + t.gzipped(raw[700:]))
    assert (target / "a").read_bytes() == b"x" * 3000


def test_zstd_layers_are_read(target):
    zstd = pytest.importorskip("backports.zstd")
    raw = t.file(b"a", os.urandom(300_000)) + t.end()
    apply(target, zstd.compress(raw))
    assert (target / "a").stat().st_size == 300_000


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_truncated_layer_is_refused(target, cut):
    data = t.gzipped(t.file(b"a", os.urandom(5000)) + t.end())
    with pytest.raises(errdefs.Unknown, match=r"unexpected end|corrupt"):
        apply(target, data[:-cut])


def test_flipped_bit_is_refused(target):
    data = bytearray(t.gzipped(t.file(b"a", os.urandom(5000)) + t.end()))
    data[len(data) // 2] ^= 1
    with pytest.raises(errdefs.Unknown):
        apply(target, bytes(data))


def test_bomb_stops_at_the_limit(target):
    data = t.gzipped(t.file(b"a", bytes(50_000_000)) + t.end())
    with pytest.raises(errdefs.ResourceExhausted, match="more than 1000000 bytes"):
        apply(target, data, limit=1_000_000)


@pytest.mark.parametrize("name", [b"../canary/x", b"/../../canary/x", b"a/../../canary/x", b"./../canary/x"])
def test_dotdot_stays_inside(target, name):
    apply(target, t.file(name, b"x") + t.end())
    assert (target / "canary/x").read_bytes() == b"x"


@pytest.mark.parametrize("via", [b"../canary", b"../../canary", b"/proc/self/cwd/../canary"])
def test_symlinked_parent_resolves_inside_the_root(target, via):
    layer = t.symlink(b"l", via) + t.file(b"l/secret", b"evil") + t.end()
    with contextlib.suppress(errdefs.ContainerdError, OSError):
        apply(target, layer)
    assert (target.parent / "canary/secret").read_text() == "secret"


def test_absolute_symlink_to_the_host_resolves_inside_the_root(target):
    canary = os.fsencode(target.parent / "canary")
    layer = t.symlink(b"l", canary) + t.directory(canary) + t.file(b"l/secret", b"evil") + t.end()
    apply(target, layer)
    assert (target.parent / "canary/secret").read_text() == "secret"


@pytest.mark.parametrize("link", [b"/etc/shadow", b"../../canary/secret", b"nosuch"])
def test_hard_link_out_of_the_root_is_refused(target, link):
    with pytest.raises(errdefs.InvalidArgument, match="hard link"):
        apply(target, t.hardlink(b"x", link) + t.end())


def test_hard_link_to_a_symlink_links_the_symlink(target):
    apply(target, t.symlink(b"l", b"../canary/secret") + t.hardlink(b"x", b"l") + t.end())
    assert os.readlink(target / "x") == "../canary/secret"


def test_later_member_replaces_an_earlier_one_of_another_kind(target):
    layer = (
        t.directory(b"a/")
        + t.file(b"a/b", b"1")
        + t.symlink(b"a", b"c")
        + t.directory(b"a/")
        + t.file(b"a/d")
    )
    apply(target, layer + t.end())
    assert tree(target) == ["a", "a/d"]


def test_whiteout_removes_what_the_parent_had_but_not_what_the_layer_brought(target):
    (target / "d").mkdir()
    (target / "d/old").write_text("x")
    (target / "gone").write_text("x")
    layer = (
        t.file(b"d/new")
        + t.file(b"d/.wh..wh..opq")
        + t.file(b".wh.gone")
        + t.file(b"kept")
        + t.file(b".wh.kept")
    )
    apply(target, layer + t.end())
    assert tree(target) == ["d", "d/new", "kept"]


@pytest.mark.parametrize("name", [b".wh...", b".wh..", b".wh.", b".wh..wh.plnk", b"d/.wh..."])
def test_odd_whiteouts_remove_nothing(target, name):
    (target / "d").mkdir()
    (target / "d/f").write_text("x")
    apply(target, t.file(name) + t.end())
    assert (target / "d/f").exists()


def test_whiteout_under_a_symlinked_parent_removes_nothing_outside(target):
    apply(
        target, t.symlink(b"l", b"../canary") + t.file(b"l/.wh.secret") + t.file(b"l/.wh..wh..opq") + t.end()
    )
    assert (target.parent / "canary/secret").exists()


@root_only
def test_overlay_whiteouts_are_devices_and_opaque_attributes(target, tmp_path):
    lower = tmp_path / "lower"
    (lower / "d").mkdir(parents=True)
    (lower / "d").chmod(0o711)
    os.chown(lower / "d", 12, 34)
    apply(target, t.file(b"d/.wh.f") + t.file(b"o/.wh..wh..opq") + t.end(), overlay=True, lower=[lower])
    node = (target / "d/f").lstat()
    assert stat.S_ISCHR(node.st_mode)
    assert node.st_rdev == 0
    assert os.getxattr(target / "o", "trusted.overlay.opaque") == b"y"
    made = (target / "d").stat()
    assert (stat.S_IMODE(made.st_mode), made.st_uid, made.st_gid) == (0o711, 12, 34)


@root_only
def test_owners_devices_and_large_ids(target):
    layer = t.file(b"f", uid=1000, gid=4_000_000_000) + t.header(
        b"null", kind=b"3", major=1, minor=3, mode=0o666
    )
    apply(target, layer + t.header(b"p", kind=b"6", mode=0o600) + t.end())
    assert ((target / "f").stat().st_uid, (target / "f").stat().st_gid) == (1000, 4_000_000_000)
    assert (target / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((target / "p").stat().st_mode)


@pytest.mark.parametrize(
    "member",
    [
        t.file(b"f", uid=2**32 - 1),
        t.file(b"f", uid=2**40),
        t.pax({b"uid": b"-1"}) + t.file(b"f"),
        t.header(b"n", kind=b"3", major=4096, minor=0),
        t.header(b"n", kind=b"4", major=1, minor=1 << 20),
        t.header(b"n", kind=b"V"),
    ],
)
def test_out_of_range_members_are_refused(target, member):
    with pytest.raises(errdefs.InvalidArgument):
        apply(target, member + t.end())
    assert tree(target) == []


@pytest.mark.parametrize(
    "member",
    [
        t.pax({b"size": b"-5"}) + t.file(b"f"),
        t.pax({b"size": b"1_0"}) + t.file(b"f"),
        t.pax({b"path": b"a\0b"}) + t.file(b"f"),
        t.header(b"f", raw={124: b"0000000001_\0"}),
        t.header(b"f", kind=b"L", size=2 << 20),
        t.header(b"f", kind=b"x", size=8) + t.padded(b"99 a=b\n\0"),
        b"\x01" * 512,
        t.header(b"f", raw={100: b"999\0"}),
    ],
)
def test_malformed_headers_are_refused(target, member):
    with pytest.raises(errdefs.Unknown, match="tar: "):
        apply(target, member + t.end())


def test_xattrs_are_an_allow_list(target):
    records = {b"SCHILY.xattr.user.ok": b"1", b"SCHILY.xattr.user.overlay.opaque": b"y"}
    records |= {b"SCHILY.xattr.trusted.overlay.redirect": b"/canary"}
    apply(target, t.pax(records) + t.file(b"f") + t.end())
    assert os.listxattr(target / "f") == ["user.ok"]


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_large_numbers_of_a_real_writer(target, format_):
    out = io.BytesIO()
    name = "d" * 90 + "/" + "e" * 90 + "/" + "f" * 120
    with tarfile.open(fileobj=out, mode="w", format=format_) as archive:
        info = tarfile.TarInfo(name)
        info.size, info.mtime = 3, 1_700_000_000
        archive.addfile(info, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("l")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * 200
        archive.addfile(link)
    apply(target, out.getvalue())
    assert (target / name).read_bytes() == b"abc"
    assert os.readlink(target / "l") == "t" * 200


def sparse_map(size: int) -> dict[bytes, bytes]:
    return {
        b"GNU.sparse.size": str(size).encode(),
        b"GNU.sparse.map": b"4096,3,8192,2",
        b"GNU.sparse.name": b"s",
    }


def test_sparse_files_of_three_formats_keep_their_holes(target):
    data = b"abcde"
    old = t.header(
        b"old",
        kind=b"S",
        size=5,
        raw={
            257: b"ustar  \0",
            386: b"%011o\0%011o\0" % (4096, 3),
            410: b"%011o\0%011o\0" % (8192, 2),
            483: b"%011o\0" % 10000,
        },
    )
    in_data = t.padded(b"2\n4096\n3\n8192\n2\n") + data
    v1 = t.pax(
        {
            b"GNU.sparse.major": b"1",
            b"GNU.sparse.minor": b"0",
            b"GNU.sparse.name": b"v1",
            b"GNU.sparse.realsize": b"10000",
        }
    )
    layer = (
        old
        + t.padded(data)
        + t.pax(sparse_map(10000))
        + t.file(b"x", data)
        + v1
        + t.file(b"y", in_data)
        + t.end()
    )
    apply(target, layer)
    wanted = bytes(4096) + b"abc" + bytes(8192 - 4099) + b"de" + bytes(10000 - 8194)
    for name in ("old", "s", "v1"):
        assert (target / name).read_bytes() == wanted


def test_sparse_map_that_lies_is_refused(target):
    with pytest.raises(errdefs.Unknown, match="sparse"):
        apply(target, t.pax(sparse_map(100)) + t.file(b"x", b"abcde") + t.end())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_mutation_of_a_layer_is_applied_inside_or_refused(tmp_path_factory, data):
    base = (
        t.directory(b"a/")
        + t.symlink(b"a/l", b"/")
        + t.pax({b"path": b"a/long"})
        + t.file(b"x", b"data")
        + t.end()
    )
    raw = bytearray(base)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    root = tmp_path_factory.mktemp("r")
    target = root / "root"
    target.mkdir()
    with contextlib.suppress(errdefs.ContainerdError, OSError, ValueError):
        apply(target, bytes(raw))
    assert sorted(os.listdir(root)) == ["blob", "root"]


def test_a_hundred_thousand_opaque_markers_cost_one_pass(target):
    layer = t.file(b"d/f") + t.file(b"d/.wh..wh..opq") * 3000 + t.end()
    apply(target, layer)
    assert tree(target) == ["d", "d/f"]
