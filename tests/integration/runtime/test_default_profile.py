"""What the default seccomp profile keeps from a container: the kernel-facing attacks of the catalogue (R24, K01, K02)."""

from __future__ import annotations

import errno
import os

import pytest

from pycontainerd.lib.oci.seccomp_profile import default_profile
from support import elf

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the test's programs are x86_64's")
AF_INET, AF_ALG, AF_VSOCK = 2, 38, 40
FIRST_FD = 256 - 3
SOCK_STREAM, SOCK_SEQPACKET = 1, 5


@pytest.fixture
def run_program(runtime, bundle):
    """`run_program(bytes)`: the exit status of a program under the default profile, or under none."""

    def run(program: bytes, *, profile: bool = True) -> int:
        (bundle.rootfs / "program").write_bytes(program)
        (bundle.rootfs / "program").chmod(0o755)
        if profile:
            bundle.linux["seccomp"] = default_profile(bundle.process["capabilities"]["bounding"])
        else:
            bundle.linux.pop("seccomp", None)
        return runtime.run(bundle.args("/program").build()).code

    return run


@pytest.mark.parametrize("family", [AF_ALG, AF_VSOCK])
def test_k01_sockets_of_the_kernels_crypto_and_of_the_host_are_denied(run_program, family):
    """CVE-2026-31431: AF_ALG with splice writes to the page cache of a read-only file."""
    assert run_program(elf.socket64(family, SOCK_SEQPACKET)) == errno.EPERM


def test_k01_other_sockets_are_not(run_program):
    assert run_program(elf.socket64(AF_INET, SOCK_STREAM)) == FIRST_FD


def test_k02_socketcall_of_i386_is_no_way_around(run_program):
    """CVE-2026-123876: the address of its arguments is all that a filter sees."""
    if run_program(elf.getpid32(), profile=False) != 0:
        pytest.skip("the kernel runs no i386 programs")
    assert (
        run_program(elf.socketcall32(AF_INET, SOCK_STREAM), profile=False) == FIRST_FD
    )  # the program itself is right
    assert run_program(elf.socketcall32(AF_ALG, SOCK_SEQPACKET)) in (errno.EPERM, errno.ENOSYS)


def test_r24_no_new_user_namespace_and_so_no_mount_of_cgroups(runtime, bundle):
    """CVE-2022-0492: release_agent of a cgroup v1 hierarchy mounted in a namespace of one's own."""
    bundle.linux["seccomp"] = default_profile(bundle.process["capabilities"]["bounding"])
    done = runtime.run(bundle.args("unshare", "-U", "-r", "-m", "true").build())
    assert done.code != 0
    assert "not permitted" in done.err
