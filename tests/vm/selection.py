"""Which tests run in the virtual machine: batches, each of which is one boot with one version of cgroups.

Software emulation takes some four seconds for a test, so what neither cgroups nor the machine's rights matter to stays outside.
"""

from __future__ import annotations

RUNTIME_TESTS = "tests/integration/runtime"

# name, version of cgroups, files below RUNTIME_TESTS
BATCHES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "limits",
        "v2",
        ("test_resources_v2.py", "test_resources_both.py", "test_cgroup_v2.py", "test_rootless.py"),
    ),
    ("rights", "v2", ("test_apparmor.py", "test_privileges.py", "test_capabilities.py", "test_userns.py")),
    ("life", "v2", ("test_lifecycle.py", "test_exec.py", "test_delete.py", "test_state.py")),
    ("surroundings", "v2", ("test_mounts.py", "test_properties.py", "test_seccomp.py", "test_tty.py")),
    (
        "commands",
        "v2",
        ("test_hooks.py", "test_list.py", "test_scheduling.py", "test_pidfd_socket.py", "test_netdevice.py"),
    ),
    ("limits of version 1", "v1", ("test_resources.py", "test_resources_both.py", "test_cgroups.py")),
)


def files(version: str) -> set[str]:
    """What runs on a version of cgroups."""
    return {name for _, its, names in BATCHES if its == version for name in names}
