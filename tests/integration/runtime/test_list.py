"""list, ps, spec, features, version, help: what the command line prints."""

from __future__ import annotations

import json

import pytest

from support.runtime import is_ours, ours_only


def test_table(runtime, bundle):
    runtime.create(bundle.build())
    header, row = runtime.ok("list").out.splitlines()
    assert header.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert row.split()[:4] == ["c", str(runtime.pid()), "created", str(bundle.path)]
    assert row.split()[-1] == "root"


def test_quiet_and_json(runtime, bundle):
    runtime.create(bundle.build())
    assert runtime.ok("list", "--quiet").out == "c\n"
    (row,) = json.loads(runtime.ok("list", "--format=json").out)
    assert row["id"] == "c"
    assert row["owner"] == "root"


def test_none(runtime):
    assert runtime.ok("list").out == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    assert runtime.ok("list", "-f", "json").out.strip() == "null"


def test_bad_format(runtime, bundle):
    done = runtime("list", "--format", "foo")
    assert done.code == 1
    assert "invalid format option" in done.err


def test_ps(runtime, bundle):
    runtime.start_detached(bundle.args("sleep", "100").build())
    assert json.loads(runtime.ok("ps", "-f", "json", "c").out) == [runtime.pid()]
    header, row = runtime.ok("ps", "c").out.splitlines()
    assert "PID" in header.split()
    assert "sleep 100" in row
    assert "sleep" in runtime.ok("ps", "c", "-o", "pid,comm").out


def test_spec_writes_a_config_that_runs(runtime, bundle):
    """S099."""
    path = bundle.build()
    (path / "config.json").unlink()
    runtime.ok("spec", "--bundle", str(path))
    assert json.loads((path / "config.json").read_text())["process"]["args"] == ["sh"]
    done = runtime("spec", "--bundle", str(path))
    assert done.code == 1
    assert "config.json exists. Remove it first" in done.err


def test_features_is_a_document(runtime):
    found = json.loads(runtime.ok("features").out)
    assert found["ociVersionMin"] == "1.0.0"
    assert "rbind" in found["mountOptions"]
    assert found["linux"]["cgroup"]["v1"]
    assert found["linux"]["cgroup"]["systemd"]
    if is_ours():  # and runc 1.2 and later
        assert found["linux"]["mountExtensions"]["idmap"]["enabled"]
        assert "org.systemd.property." in found["potentiallyUnsafeConfigAnnotations"]
        assert "MPOL_BIND" in found["linux"]["memoryPolicy"]["modes"]


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        (["run"], "Incorrect Usage.", '"run" requires exactly 1 argument(s)'),
        (["state", "a", "b"], "Incorrect Usage.", '"state" requires exactly 1 argument(s)'),
        (["kill"], "Incorrect Usage.", '"kill" requires a minimum of 1 argument(s)'),
        (
            ["--foo"],
            "Incorrect Usage. flag provided but not defined: -foo",
            "flag provided but not defined: -foo",
        ),
        (
            ["run", "--foo"],
            "Incorrect Usage: flag provided but not defined: -foo",
            "flag provided but not defined: -foo",
        ),
        (["foo"], "", "No help topic for 'foo'"),
        (["--log-format", "foo", "list"], "", "invalid log-format: foo"),
    ],
)
def test_usage_errors(runtime, words, out, err):
    done = runtime(*words)
    assert done.code == (3 if words == ["foo"] else 1)
    assert done.out.startswith(out)
    assert err in done.err.replace('\\"', '"')


@pytest.mark.parametrize("words", [["--help"], ["help"], ["run", "--help"], ["help", "run"], ["-h"]])
def test_help(runtime, words):
    done = runtime(*words)
    assert done.code == 0
    assert done.out.startswith("NAME:\n")
    assert "USAGE:\n" in done.out


def test_version(runtime):
    first, *rest = runtime.ok("--version").out.splitlines()
    assert " version " in first
    assert any(line.startswith("spec: ") for line in rest)
    assert any(line.startswith("libseccomp: ") for line in rest)


@ours_only("completion is a command")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(runtime, shell):
    assert "pyrunc" in runtime.ok("completion", shell).out


def test_one_json_error_line_in_the_log(runtime, short_tmp):
    """S086: the shim takes the last error line as the user's error."""
    log = short_tmp / "log.json"
    done = runtime("--log", str(log), "--log-format", "json", "state", "nope")
    (line,) = log.read_text().splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["msg"]) == ("error", "container does not exist")
    assert set(entry) == {"level", "msg", "time"}
    assert done.err == "container does not exist\n"


def test_rootless_takes_a_truth_value_or_auto(runtime, bundle):
    path = bundle.args("true").build()
    assert runtime("--rootless", "maybe", "run", "--bundle", str(path), "c").code == 1
    assert runtime("--rootless", "false", "run", "--bundle", str(path), "c").code == 0
