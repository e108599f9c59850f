"""Networks that others make: `run --cni` with Debian's plugins and with bad ones, `--with-ns network:PATH`; ctr and pyctr.

Every network is in a room of its own (support.network_room): the clients run there, and the plugins with them.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from pycontainerd.lib.api.full import containers_v1, wkt
from support import network_room
from support.daemons import call
from support.network_room import BRIDGE, Room

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.stack import Stack

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(240)]

CLIENTS = pytest.mark.parametrize("client", ["ctr", "pyctr"])
GOOD = '{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","sandbox":"x"}]}'


@pytest.fixture(scope="module", params=["ours", "real"])
def stack(request: pytest.FixtureRequest, busybox: str) -> Stack:
    """A daemon of each kind that has busybox."""
    found: Stack = request.getfixturevalue(f"{'our' if request.param == 'ours' else 'real'}_stack")
    found.ctr("image", "pull", "--plain-http", busybox)
    return found


@pytest.fixture
def room() -> Iterator[Room]:
    with network_room.opened() as found:
        found.configure([BRIDGE])
        yield found


def remove(stack: Stack, *names: str) -> None:
    """By the other way than the client under test."""
    for name in names:
        stack.ctr("task", "rm", "-f", name, check=False)
        stack.ctr("container", "rm", name, check=False)


def left(stack: Stack) -> list[str]:
    """Tasks and containers there are."""
    return stack.ctr("task", "ls", "-q").stdout.split() + stack.ctr("container", "ls", "-q").stdout.split()


@CLIENTS
def test_containers_on_a_bridge_reach_the_host_and_each_other(
    stack: Stack, room: Room, busybox: str, client: str
) -> None:
    first = room.run(stack, client, "run", "-d", "--cni", busybox, "n1", "sleep", "100")
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    (address,) = room.addresses()
    assert room.results() == ["n1-default-n1-eth0"]
    look = f"ip -4 -o addr show eth0; ip route; ping -c1 -W5 10.88.7.1; ping -c1 -W5 {address}; exit 7"
    second = room.run(stack, client, "run", "--rm", "--cni", busybox, "n2", "sh", "-c", look)
    assert second.returncode == 7, second.stderr
    assert re.search(r"eth0 +inet 10\.88\.7\.\d+/24", second.stdout)
    assert "default via 10.88.7.1 dev eth0" in second.stdout
    assert second.stdout.count("1 packets transmitted, 1 packets received") == 2
    assert (room.addresses(), room.results()) == ([address], ["n1-default-n1-eth0"])  # n2's went with it
    joined = room.run(
        stack, client, "run", "--rm", "--with-ns", f"network:{room.netns}", busybox, "n3", "sh", "-c",
        f"readlink /proc/self/ns/net; ping -c1 -W5 {address}",
    )  # fmt: skip
    assert joined.returncode == 0, joined.stderr
    assert joined.stdout.splitlines()[0] == os.readlink(room.netns)
    assert "1 packets received" in joined.stdout
    remove(stack, "n1")
    assert [name for name in room.links() if name.startswith("veth")] == []


def test_what_run_left_attached_is_released_with_its_task(stack: Stack, room: Room, busybox: str) -> None:
    """ctr 1.6 leaves the address taken for good; `task rm` and `container rm` of pyctr release it, whoever attached it."""
    for client, command in (
        ("pyctr", ("task", "rm", "-f", "n1")),
        ("ctr", ("task", "rm", "-f", "n1")),
        ("ctr", ("container", "rm", "n1")),
    ):
        assert room.run(stack, client, "run", "-d", "--cni", busybox, "n1", "sleep", "100").returncode == 0
        assert len(room.addresses()) == 1
        if command[0] == "container":
            room.run(stack, "ctr", "task", "rm", "-f", "n1")
            assert len(room.addresses()) == 1
        done = room.run(stack, "pyctr", *command)
        assert done.returncode == 0, done.stderr
        assert (room.addresses(), room.results()) == ([], [])
        remove(stack, "n1")


def test_a_later_ctrs_container_gets_its_network_with_every_task(
    our_stack: Stack, room: Room, busybox: str
) -> None:
    """From 1.7 on ctr keeps with a container that it was made with --cni, and containerd 2's heeds that at `task start`."""
    our_stack.ctr("image", "pull", "--plain-http", busybox)
    assert our_stack.pyctr("container", "create", busybox, "n1", "sleep", "100").returncode == 0
    url = "github.com/containerd/containerd/cmd/ctr/commands/NetworkMetaData"
    for value, code, addresses in (
        (b'{"EnableCni":true}', 0, 1),
        (b'{"EnableCni":false}', 0, 0),
        (b"{", 1, 0),
    ):
        _extend(our_stack, "n1", {"ctr.cni-containerd.metadata": wkt.Any(type_url=url, value=value)})
        done = room.run(our_stack, "pyctr", "task", "start", "-d", "n1")
        assert (done.returncode, len(room.addresses())) == (code, addresses), done.stderr
        room.run(our_stack, "pyctr", "task", "rm", "-f", "n1")
        assert (room.addresses(), room.results()) == ([], [])
    assert (
        "the extension ctr.cni-containerd.metadata of container n1: unexpected end of JSON input"
        in done.stderr
    )
    room.configure([{"type": "nosuch"}])
    _extend(
        our_stack, "n1", {"ctr.cni-containerd.metadata": wkt.Any(type_url=url, value=b'{"EnableCni":true}')}
    )
    assert room.run(our_stack, "pyctr", "task", "start", "-d", "n1").returncode == 1
    assert our_stack.ctr("task", "ls", "-q").stdout == ""
    remove(our_stack, "n1")


def _extend(stack: Stack, name: str, extensions: dict[str, wkt.Any]) -> None:
    """What is kept with a container, by the API."""
    request = containers_v1.UpdateContainerRequest(
        container=containers_v1.Container(id=name, extensions=extensions),
        update_mask=wkt.FieldMask(paths=["extensions"]),
    )
    with grpc.insecure_channel(f"unix://{stack.address}") as channel:
        code, text, _ = call(channel, containers_v1.CONTAINERS, "Update", request)
    assert code == "OK", text


def test_attached_and_followed_to_its_end(stack: Stack, room: Room, busybox: str) -> None:
    run = room.run(stack, "pyctr", "run", "-d", "--cni", busybox, "n1", "sh", "-c", "sleep 2; exit 3")
    assert (run.returncode, len(room.addresses())) == (0, 1)
    assert room.run(stack, "pyctr", "task", "attach", "n1").returncode == 3
    assert (room.addresses(), room.results()) == ([], [])
    remove(stack, "n1")


def test_a_container_of_that_name_elsewhere_keeps_its_network(
    our_stack: Stack, real_stack: Stack, room: Room, busybox: str
) -> None:
    for stack in (our_stack, real_stack):
        stack.ctr("image", "pull", "--plain-http", busybox)
    assert room.run(real_stack, "pyctr", "run", "-d", "--cni", busybox, "n1", "sleep", "100").returncode == 0
    assert room.run(our_stack, "pyctr", "container", "create", busybox, "n1").returncode == 0
    assert room.run(our_stack, "pyctr", "container", "rm", "n1").returncode == 0
    assert len(room.addresses()) == 1
    assert room.run(real_stack, "pyctr", "task", "rm", "-f", "n1").returncode == 0
    assert room.addresses() == []
    remove(real_stack, "n1")


@CLIENTS
def test_what_a_plugin_is_told(our_stack: Stack, room: Room, busybox: str, client: str) -> None:
    our_stack.ctr("image", "pull", "--plain-http", busybox)
    room.make_plugin(
        "told",
        'cat > /opt/in.$CNI_COMMAND; env | grep ^CNI_ | sort > /opt/env.$CNI_COMMAND; readlink "$CNI_NETNS" > /opt/ns.$CNI_COMMAND; '
        f"echo '{GOOD}'",
    )
    room.configure([{"type": "told", "extra": [1]}])
    assert room.run(our_stack, client, "run", "--rm", "--cni", busybox, "n1", "true").returncode == 0
    seen = {
        command: [Path(f"{room.outside}/opt/{part}.{command}").read_text() for part in ("in", "env", "ns")]
        for command in ("ADD", "DEL")
    }
    asked = {"cniVersion": "0.4.0", "name": "n1", "type": "told", "extra": [1]}
    assert json.loads(seen["ADD"][0]) == asked
    given = json.loads(seen["DEL"][0])
    assert given.pop("prevResult").items() >= json.loads(GOOD).items()
    assert given == asked
    for command, (_, environment, _) in seen.items():
        told = dict(line.split("=", 1) for line in environment.splitlines())
        netns = told.pop("CNI_NETNS")
        assert told == {
            "CNI_ARGS": "",
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "default-n1",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin:/usr/lib/cni",
        }
        # ctr names no namespace at the end; ours is held, so that plugins can still enter it.
        assert re.fullmatch(r"/proc/\d+/(ns/net|fd/\d+)", netns) or (client, netns) == ("ctr", "")
    assert client == "ctr" or seen["ADD"][2] == seen["DEL"][2] != ""


# File name -> texts: every one is refused before any plugin runs.
REFUSED: dict[str, tuple[str, ...]] = {
    "": ("",),
    "1.txt": ("{}",),
    "1.conflist": (
        "", "{bad", "[]", "null", '"x"', '{"name":', '{"name":"n1" "x"}', '{"name":t}', "{'name'}", '{"name":"n1",}',
        '{"a":"\\q"}', '{"a":01}', '{"a":"b\nc"}', '{"name":"n1","plugins":[{"type":"told"}]}x', '{"name":"n1"}',
    ),
    "2.conflist": (
        '{"plugins":[{"type":"told"}]}', '{"name":3,"plugins":[]}', '{"name":null}', '{"name":"n1","cniVersion":4}',
        '{"name":"n1","plugins":{}}', '{"name":"n1","plugins":[]}', '{"name":"n1","plugins":[3]}',
        '{"name":"n1","plugins":[{"type":3}]}', '{"name":"n1","plugins":[{"name":"x"}]}',
        '{"name":"n1","plugins":[{"type":"told","capabilities":3}]}',
    ),
    "1.conf": (
        "", "{bad", "[]", "null", "3", "{}", '{"name":"n1"}', '{"type":3}', '{"type":"told","name":3}',
        '{"type":"told","cniVersion":3}', '{"type":"told","ipam":3}', '{"name":"n1","plugins":[{"type":"told"}]}',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_configurations_are_refused_in_ctrs_words(
    our_stack: Stack, room: Room, busybox: str, name: str
) -> None:
    our_stack.ctr("image", "pull", "--plain-http", busybox)
    for text in REFUSED[name]:
        room.configure(text, name)
        answers = [
            room.run(our_stack, client, "run", "--rm", "--cni", busybox, "n1", "true")
            for client in ("ctr", "pyctr")
        ]
        said, ours = ([done.returncode, done.stdout, _first_line(done.stderr)] for done in answers)
        assert said[2].startswith("ctr: "), text
        assert ours == said, text
    assert left(our_stack) == []


def _first_line(text: str) -> str:
    """What is said, without the hint that ours gives on a second line."""
    return text.split("\n", 1)[0]


# What a plugin does (`case $CNI_COMMAND` where it matters), in a network of just it.
FAILING = {
    "silent": "exit 3",
    "on stderr": 'echo "oops" >&2; exit 3',
    "no answer": "echo oops; exit 3",
    "an error": 'echo \'{"code":7,"msg":"no way"}\'; exit 1',
    "with details": 'echo \'{"code":7,"msg":"no way","details":"at all"}\'; exit 1',
    "an error of other types": 'echo \'{"code":"x","msg":3}\'; exit 1',
    "killed": "kill -9 $$",
    "nothing": "exit 0",
    "no result": "echo hi",
    "a list": "echo '[]'",
    "another version": 'echo \'{"cniVersion":"7.0.0"}\'',
}


def _said(text: str) -> list[str]:
    return [re.sub(r'time="[^"]*"', "", line) for line in text.splitlines() if not line.startswith(" ")]


OTHERS: dict[str, list[dict[str, str]]] = {
    "missing": [{"type": "nosuch"}],
    "a path": [{"type": "a/b"}],
    "named": [{"type": "failing", "name": "own"}],
}


@pytest.mark.parametrize("name", [*FAILING, *OTHERS])
def test_failing_plugins_are_told_in_ctrs_words_and_leave_nothing(
    our_stack: Stack, room: Room, busybox: str, name: str
) -> None:
    our_stack.ctr("image", "pull", "--plain-http", busybox)
    room.make_plugin("failing", FAILING.get(name, "exit 3"))
    room.configure(OTHERS.get(name, [{"type": "failing"}]))
    said = room.run(our_stack, "ctr", "run", "--rm", "--cni", busybox, "n1", "true")
    remove(our_stack, "n1")  # ctr leaves its task, created
    ours = room.run(our_stack, "pyctr", "run", "--rm", "--cni", busybox, "n1", "true")
    assert ours.returncode == said.returncode == 1
    assert _said(said.stderr)[-1].startswith("ctr: plugin type=")
    assert _said(ours.stderr) == _said(said.stderr)
    # A shim that is to delete what never started needn't wait for output first.
    assert "failed to drain process" not in our_stack.log.read_text()
    assert (left(our_stack), room.addresses(), room.results()) == ([], [], [])


def test_a_network_that_begins_well_is_taken_down_when_its_second_plugin_fails(
    our_stack: Stack, room: Room, busybox: str
) -> None:
    """ctr stops at the first plugin that fails at DEL, so the address stays taken."""
    our_stack.ctr("image", "pull", "--plain-http", busybox)
    room.configure([BRIDGE, {"type": "nosuch"}])
    for flags in (("--rm",), ("-d",)):
        done = room.run(our_stack, "pyctr", "run", *flags, "--cni", busybox, "n1", "true")
        assert done.returncode == 1
        assert 'ctr: plugin type="nosuch" failed (add): failed to find plugin' in done.stderr
        assert room.addresses() == []
        assert our_stack.ctr("task", "ls", "-q").stdout == ""
        our_stack.ctr("container", "rm", "n1", check=False)


@CLIENTS
def test_a_plugin_that_fails_at_the_end_is_told_and_changes_no_exit_status(
    our_stack: Stack, room: Room, busybox: str, client: str
) -> None:
    our_stack.ctr("image", "pull", "--plain-http", busybox)
    room.make_plugin("failing", f"[ $CNI_COMMAND = ADD ] || exit 4; echo chatty >&2; echo '{GOOD}'")
    room.configure([{"type": "failing"}])
    done = room.run(our_stack, client, "run", "--rm", "--cni", busybox, "n1", "sh", "-c", "exit 5")
    assert done.returncode == 5
    assert _said(done.stderr) == [
        "chatty",
        ' level=error msg="network review" error="plugin type=\\"failing\\" failed (delete): netplugin failed with no error message: exit status 4"',
    ]
    assert left(our_stack) == []
    assert room.results() == ["n1-default-n1-eth0"]  # what is still to be taken down


def test_namespaces_that_cannot_be_joined(stack: Stack, busybox: str) -> None:
    for path, text in (
        ("/run/netns/nosuch", "namespace path: lstat /run/netns/nosuch: no such file or directory"),
        ("relative", "namespace path: lstat relative: no such file or directory"),
        ("/etc/passwd", ""),
        ("/proc/self/ns/mnt", ""),
    ):
        for client in ("ctr", "pyctr"):
            done = stack.run(
                client, "run", "--rm", "--with-ns", f"network:{path}", busybox, "n1", "true", check=False
            )
            assert done.returncode == 1, path
            assert "OCI runtime create failed" in done.stderr
            if text:
                assert f"unable to create new parent process: {text}" in done.stderr
            elif stack.kind == "ours":
                # runc says of both: can't get final child's PID from pipe: EOF
                shown = re.sub(r"/proc/\d+/", "/proc/self/", done.stderr)
                assert (
                    f"cannot join the network namespace {path.replace('/proc/self/ns/mnt', 'mnt:[')}" in shown
                )
            assert left(stack) == []
