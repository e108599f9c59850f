"""Devices by CDI: which file describes them, and what it does to the Spec (from the specification's words)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pycontainerd.ctr import cdi
from pycontainerd.lib.errdefs import InvalidArgument, NotFound

if TYPE_CHECKING:
    from pathlib import Path

SPEC: dict[str, Any] = {
    "process": {"user": {"uid": 0, "gid": 0, "additionalGids": [5]}, "env": ["A=1"]},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": []}],
    "linux": {},
}
# As NVIDIA's tool writes them.
YAML = """\
---
cdiVersion: 0.5.0
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - args:
    - nvidia-cdi-hook
    - --link
    - libcuda.so.1::/usr/lib/libcuda.so
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: /usr/lib/deep/lib.so
    hostPath: /usr/lib/lib.so
    options:
    - ro
    - nosuid
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/null
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/gpu1
      type: c
      major: 195
      minor: 1
      permissions: rw
      gid: 44
    additionalGids: [44]
  name: all
kind: nvidia.com/gpu
"""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    for name in ("etc", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "etc/nvidia.yaml").write_text(YAML)
    return str(tmp_path / "etc"), str(tmp_path / "run")


def test_a_devices_edits_and_its_files_are_made(folders: tuple[str, str]) -> None:
    spec = cdi.with_devices(SPEC, ["nvidia.com/gpu=0", "nvidia.com/gpu=all"], folders)
    assert spec["process"]["env"] == ["A=1", "NVIDIA_VISIBLE_DEVICES=void"]
    (hook,) = spec["hooks"]["createContainer"]  # once, for both devices
    assert hook == {
        "path": "/usr/bin/nvidia-cdi-hook",
        "args": ["nvidia-cdi-hook", "--link", "libcuda.so.1::/usr/lib/libcuda.so"],
    }
    assert spec["mounts"][-1] == {
        "destination": "/usr/lib/deep/lib.so", "type": "bind", "source": "/usr/lib/lib.so", "options": ["ro", "nosuid"],
    }  # fmt: skip
    null, gpu = spec["linux"]["devices"]
    assert (null["path"], null["type"], null["major"], null["minor"]) == ("/dev/null", "c", 1, 3)
    assert gpu == {"path": "/dev/gpu1", "type": "c", "major": 195, "minor": 1, "gid": 44}
    rules = [(rule["major"], rule["access"]) for rule in spec["linux"]["resources"]["devices"]]
    assert rules == [(1, "rwm"), (195, "rw")]
    assert spec["process"]["user"]["additionalGids"] == [5, 44]
    assert "hooks" not in SPEC


def test_the_later_folder_counts(folders: tuple[str, str], tmp_path: Path) -> None:
    edits = {"env": ["FROM=run"]}
    document = {
        "cdiVersion": "0.6.0",
        "kind": "nvidia.com/gpu",
        "devices": [{"name": "0", "containerEdits": edits}],
    }
    (tmp_path / "run/x.json").write_text(json.dumps(document))
    spec = cdi.with_devices(SPEC, ["nvidia.com/gpu=0"], folders)
    assert spec["process"]["env"] == ["A=1", "FROM=run"]
    assert "devices" not in spec["linux"]


def test_mounts_are_made_from_the_root_down(folders: tuple[str, str], tmp_path: Path) -> None:
    mounts = [{"hostPath": "/a", "containerPath": path} for path in ("/x/y/z", "/x", "/proc")]
    device = {"name": "m", "containerEdits": {"mounts": mounts}}
    (tmp_path / "etc/m.json").write_text(json.dumps({"kind": "v/c", "devices": [device]}))
    spec = cdi.with_devices(SPEC, ["v/c=m"], folders)
    assert [mount["destination"] for mount in spec["mounts"]] == ["/x", "/proc", "/x/y/z"]
    assert spec["mounts"][1]["type"] == "bind"  # in the place of what was there


@pytest.mark.parametrize(
    "name", ["a=b", "1/c=d", "v/c=", "v/=d", "/c=d", "v/c=-d", "v/c=d-", "v/c/e=d", "v/c=d e"]
)
def test_what_is_no_name(name: str, folders: tuple[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="is neither a path nor a CDI device"):
        cdi.with_devices(SPEC, [name], folders)


def test_an_unknown_device(folders: tuple[str, str]) -> None:
    with pytest.raises(
        NotFound, match=r"CDI device injection failed: unresolvable CDI devices nvidia\.com/gpu=7, v/c=x$"
    ):
        cdi.with_devices(SPEC, ["nvidia.com/gpu=0", "nvidia.com/gpu=7", "v/c=x"], folders)
    with pytest.raises(NotFound):
        cdi.with_devices(SPEC, ["v/c=x"], ("/nosuch",))


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"netDevices": []}, "edits of netDevices are not supported"),
        ({"hooks": [{"hookName": "never", "path": "/x"}]}, 'unknown hook name "never"'),
        ({"hooks": [{"hookName": "poststop"}]}, "its edits lack or misplace 'path'"),
        ({"deviceNodes": [{"type": "c"}]}, "its edits lack or misplace 'path'"),
        ({"additionalGids": ["x"]}, '"x" of a CDI file is no number'),
        ({"deviceNodes": ["/dev/null"]}, "its edits lack or misplace"),
    ],
)
def test_a_wrong_file_is_named(
    folders: tuple[str, str], tmp_path: Path, edits: dict[str, Any], said: str
) -> None:
    document = {"kind": "v/c", "devices": [{"name": "x", "containerEdits": edits}]}
    (tmp_path / "etc/w.json").write_text(json.dumps(document))
    with pytest.raises(InvalidArgument, match=said):
        cdi.with_devices(SPEC, ["v/c=x"], folders)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"a: [x\n", "w.yaml: it is not YAML: .* line 2"),
        (b"\xff\xfe", "w.yaml: it is not UTF-8"),
        (b"[a]", "w.yaml: it lacks or misplaces 'list' object"),
        (b"kind: v/c\ndevices: [x]\n", "w.yaml: it lacks or misplaces"),
        (b"kind: v/c\ndevices: [{containerEdits: {}}]\n", "w.yaml: it lacks or misplaces 'name'"),
        (b"kind: [v/c]\n", "w.yaml: it lacks or misplaces unhashable"),
        (None, ": open .*/w.yaml: no such file or directory"),
    ],
)
def test_a_file_that_is_none_is_named_where_it_may_be_missed(
    folders: tuple[str, str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    document: bytes | None,
    said: str,
) -> None:
    path = tmp_path / "run/w.yaml"
    path.symlink_to("nowhere") if document is None else path.write_bytes(document)
    with pytest.raises(InvalidArgument, match=f"CDI file.*{said}"):
        cdi.with_devices(SPEC, ["nvidia.com/gpu=0", "v/c=x"], folders)
    assert capfd.readouterr().err == ""
    spec = cdi.with_devices(SPEC, ["nvidia.com/gpu=0"], folders)
    assert len(spec["linux"]["devices"]) == 1
    warning = 'level=warning msg="CDI registry refresh failed: CDI file'
    is_of_another_kind = document is not None and document.startswith(b"kind: v/c")
    assert (warning in capfd.readouterr().err) != is_of_another_kind
