"""Whatever a config holds or lacks: a container, or one line of the log that says what is wrong, and nothing left.

Every field of a config that uses most of them, in turn left out, of another type or out of range. `./test` takes a sample of
them; `make fuzz` takes all, which is a minute.
"""

from __future__ import annotations

import json
import os

import pytest

from support.mutations import fill, mutations
from support.runtime import ours_only

pytestmark = [
    pytest.mark.requires("root"),
    ours_only("whatever a config holds, an error is a line of the log"),
    pytest.mark.timeout(600),
]
EVERY = 1 if os.environ.get("FUZZ") == "all" else 16
PARTS = 4
# The test's own cgroups are there, and nowhere else.
NOT = (("linux", "cgroupsPath"),)
# What init says of it when `create` is long over, as runc's does.
SAID_BY_INIT = "error running hook #"


@pytest.mark.parametrize("part", range(PARTS))
def test_a_config_with_one_change(runtime, bundle, short_tmp, part):
    (short_tmp / "src").mkdir()
    folder = bundle.build()
    whole = fill(bundle, str(short_tmp / "src"))
    (folder / "config.json").write_text(json.dumps(whole))
    assert runtime.run(folder).code == 0
    check(runtime, folder, list(mutations(whole, NOT))[part :: PARTS * EVERY])


def test_mappings_with_one_change(runtime, bundle):
    folder = bundle.with_userns().args("/bin/true").build()
    assert runtime.run(folder).code == 0
    changed = [
        (what, document)
        for what, document in mutations(bundle.spec, NOT)
        if what.startswith(("linux.uidMappings", "linux.gidMappings", "linux.namespaces"))
    ]
    check(runtime, folder, changed[::EVERY])


def check(runtime, folder, changed):
    assert changed
    for what, document in changed:
        (folder / "config.json").write_text(json.dumps(document))
        done = runtime.run(folder)
        lines = [line for line in done.err.splitlines() if line and not line.startswith(SAID_BY_INIT)]
        assert all(line.startswith('time="') for line in lines), f"{what}: {done}"
        assert done.code in (0, 1), f"{what}: {done}"
        assert done.code == 0 or done.err, f"{what}: {done}"
        assert [entry.name for entry in runtime.root.glob("*") if entry.is_dir()] == [], what
