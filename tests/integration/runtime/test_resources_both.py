"""Resources whose tests are the same on both versions of cgroups.

Spec: runtime-spec config-linux.md#control-groups; runc update(8)
"""

from __future__ import annotations

import pytest

from support import rdma, requires
from support.runtime import ours_only


def of_version(first: str, second: str) -> str:
    """The one of two file names that the machine's version of cgroups has."""
    return second if requires.missing("cgroup_v1") else first


@pytest.mark.requires("rdma")
def test_rdma(runtime, bundle):
    with rdma.device() as name:
        bundle.linux["resources"]["rdma"] = {name: {"hcaHandles": 3, "hcaObjects": 1000}}
        runtime.create(bundle.build())
        assert runtime.limit("rdma.max") == f"{name} hca_handle=3 hca_object=1000"


@pytest.mark.requires("hugetlb")
def test_huge_pages(runtime, bundle):
    bundle.linux["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 4 << 20}]
    runtime.create(bundle.build())
    file = of_version("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max")
    assert runtime.limit(file) == str(4 << 20)


@ours_only("cpu burst and idle")
def test_cpu_burst_and_idle(runtime, bundle):
    bundle.linux["resources"]["cpu"] = {"quota": 50000, "period": 100000, "burst": 4000, "idle": 1}
    runtime.create(bundle.build())
    files = (of_version("cpu.cfs_burst_us", "cpu.max.burst"), "cpu.idle")
    assert [runtime.limit(file) for file in files] == ["4000", "1"]
    runtime.ok("update", "--cpu-idle", "0", "--cpu-burst", "0", "c")
    assert [runtime.limit(file) for file in files] == ["0", "0"]
