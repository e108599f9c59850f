"""Scheduler, I/O priority, affinity and memory policy of a document: what is refused, in which words, and what is kept.

The refusals are those of runc 1.5 (libcontainer/configs/validate), each below its JSON path.
"""

from __future__ import annotations

import ctypes

import pytest

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.linux import scheduling as kernel
from pycontainerd.runtime.libcontainer import runc_config, scheduling
from pycontainerd.runtime.libcontainer.config import Process
from pycontainerd.runtime.libcontainer.init.program import OPERATIONS

BASE = {"args": ["x"], "cwd": "/"}


def test_the_structure_is_the_kernels():
    assert ctypes.sizeof(kernel.SchedAttr) == 48
    assert kernel.SchedAttr.sched_runtime.offset == 24


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"scheduler": {}}, "process.scheduler: scheduler policy is required"),
        ({"scheduler": {"policy": "SCHED_X"}}, "process.scheduler: invalid scheduler policy: SCHED_X"),
        (
            {"scheduler": {"policy": "SCHED_OTHER", "nice": 20}},
            "process.scheduler: invalid scheduler.nice: 20 when scheduler.policy is SCHED_OTHER",
        ),
        (
            {"scheduler": {"policy": "SCHED_BATCH", "priority": 1}},
            "process.scheduler: scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
        ),
        (
            {"scheduler": {"policy": "SCHED_RR"}},
            "process.scheduler: invalid scheduler.priority: 0: not from 1 to 99",
        ),
        (
            {"scheduler": {"policy": "SCHED_OTHER", "runtime": 1}},
            "process.scheduler: scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
        ),
        (
            {"scheduler": {"policy": "SCHED_OTHER", "flags": ["X"]}},
            "process.scheduler: invalid scheduler flag: X",
        ),
        ({"ioPriority": {}}, 'process.ioPriority: invalid ioPriority.Class: ""'),
        (
            {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}},
            "process.ioPriority: invalid ioPriority.Priority: 8: not from 0 to 7",
        ),
        (
            {"execCPUAffinity": {"final": "a"}},
            'process.execCPUAffinity.final: bad CPUAffinity.Final: parsing "a": invalid syntax',
        ),
        (
            {"execCPUAffinity": {"initial": "3-1"}},
            "process.execCPUAffinity.initial: bad CPUAffinity.Initial: invalid range: 3-1",
        ),
        (
            {"execCPUAffinity": {"initial": "0-65537"}},
            "process.execCPUAffinity.initial: bad CPUAffinity.Initial: values larger than 65536 are not supported",
        ),
    ],
)
def test_a_process_is_refused(document, text):
    with pytest.raises(InvalidArgument) as caught:
        Process({**BASE, **document})
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({}, 'linux.memoryPolicy.mode: invalid memory policy mode ""'),
        ({"mode": "INTERLEAVE"}, 'linux.memoryPolicy.mode: invalid memory policy mode "INTERLEAVE"'),
        (
            {"mode": "MPOL_PREFERRED", "flags": ["badflag"]},
            'linux.memoryPolicy.flags: invalid memory policy flag "badflag"',
        ),
        (
            {"mode": "MPOL_DEFAULT", "nodes": "0-7"},
            "linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got 8",
        ),
        (
            {"mode": "MPOL_BIND"},
            "linux.memoryPolicy.nodes: memory policy mode requires at least one node but got 0",
        ),
        (
            {"mode": "MPOL_BIND", "nodes": "0-9876543210"},
            'linux.memoryPolicy.nodes: invalid memory policy nodes "0-9876543210": values larger than 65536 are not supported',
        ),
        (
            {"mode": "MPOL_BIND", "nodes": ","},
            'linux.memoryPolicy.nodes: invalid memory policy nodes ",": no members found in set ","',
        ),
    ],
)
def test_a_memory_policy_is_refused(document, text):
    with pytest.raises(InvalidArgument) as caught:
        scheduling.parse_memory_policy(document)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("text", "numbers"), [("", []), ("0", [0]), ("0-3,7", [0, 1, 2, 3, 7]), (" 2 , ,1-1", [1, 2])]
)
def test_lists(text, numbers):
    assert scheduling.parse_list(text) == numbers


@pytest.mark.parametrize(("numbers", "words"), [([], [0]), ([0, 2], [5]), ([64], [0, 1]), ([63], [1 << 63])])
def test_masks_are_words_lowest_first(numbers, words):
    assert kernel.mask_words(numbers) == words


def test_an_exec_affinity_survives_the_state():
    affinity = scheduling.Affinity({"initial": "0-1", "final": "65"})
    assert affinity.stored() == {"Initial": [3], "Final": [0, 2]}
    assert scheduling.stored_affinity(affinity.stored()) == {"initial": "0,1", "final": "65"}


def test_an_exec_inherits_what_its_own_document_does_not_name():
    stored = {"scheduler": {"policy": "SCHED_IDLE"}, "io_priority": {"class": "IOPRIO_CLASS_IDLE"}}
    assert runc_config.scheduling_of(stored) == {
        "scheduler": {"policy": "SCHED_IDLE"},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE"},
    }


def test_a_memory_policy_survives_the_state():
    policy = scheduling.parse_memory_policy(
        {"mode": "MPOL_BIND", "nodes": "0,2", "flags": ["MPOL_F_STATIC_NODES"]}
    )
    assert policy.stored() == {"mode": 2, "flags": 1 << 15, "nodes": [5]}
    again = scheduling.stored_policy(policy.stored())
    assert again.steps() == policy.steps() == [("set_memory_policy", (2 | 1 << 15, [5]), "set_mempolicy")]


def test_every_step_is_an_operation():
    process = Process(
        {
            **BASE,
            "scheduler": {"policy": "SCHED_IDLE"},
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE"},
            "execCPUAffinity": {"final": "0"},
        }
    )
    assert process.scheduling is not None
    assert process.exec_affinity is not None
    steps = [*process.scheduling.steps(""), *process.exec_affinity.steps()]
    assert [name for name, _arguments, _what in steps] == ["set_scheduler", "set_io_priority", "set_affinity"]
    assert {name for name, _arguments, _what in steps} <= OPERATIONS.keys()
