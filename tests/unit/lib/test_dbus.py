"""D-Bus messages: the bytes of the specification's own examples, what goes in comes out, and what is none is refused."""

from __future__ import annotations

import socket
import subprocess
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib import dbus


def marshal(signature, *values):
    out = bytearray()
    dbus.marshal(signature, list(values), out)
    return bytes(out)


@pytest.mark.parametrize(
    ("signature", "values", "data"),
    [
        # D-Bus Specification, "Marshaling": the strings foo, + and bar
        ("sss", ["foo", "+", "bar"], "0300000066 6f6f00 01000000 2b00 0000 03000000 626172 00"),
        # the array of one 64-bit 5 has four bytes of padding that its length does not count
        ("at", [[5]], "08000000 00000000 0500000000000000"),
        ("ai", [[]], "00000000"),
        ("v", [("u", 7)], "01750000 07000000"),
        ("(yb)", [(1, True)], "01 000000 01000000"),
        ("g", ["a(sv)"], "05 61 28 73 76 29 00"),
    ],
)
def test_bytes(signature, values, data):
    assert marshal(signature, *values).hex() == data.replace(" ", "")


VALUES = {
    "b": st.booleans(),
    "u": st.integers(0, 2**32 - 1),
    "t": st.integers(0, 2**64 - 1),
    "s": st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])),
    "ay": st.lists(st.integers(0, 255)),
    "a(ss)": st.lists(st.tuples(st.text("ab/"), st.text("rwm"))),
}


@given(st.lists(st.sampled_from(sorted(VALUES)).flatmap(lambda k: st.tuples(st.just(k), VALUES[k]))))
def test_what_goes_in_comes_out(properties):
    body = [[(f"name{at}", item) for at, item in enumerate(properties)]]
    fields = {dbus.PATH: "/x", dbus.MEMBER: "M"}
    data = dbus.pack(dbus.SIGNAL, 3, fields, "a(sv)", body)
    assert dbus.message_size(data[:16]) == len(data)
    message = dbus.unpack(data)
    assert (message.kind, message.serial, message.body) == (dbus.SIGNAL, 3, body)
    assert message.fields == {**fields, dbus.SIGNATURE: "a(sv)"}


def test_the_other_byte_order():
    data = bytes.fromhex(
        "42 04 00 01 00000004 00000001 0000000f 08 01 67 00 01 75 00 00 01 01 6f 00 00000000 0000"
    )
    assert dbus.message_size(data[:16]) == 16 + 16 + 4


@pytest.mark.parametrize("data", [b"x" * 16, b"l\x01\0\2" + bytes(12), b"l\1\0\1" + b"\xff" * 12])
def test_what_is_no_message(data):
    with pytest.raises(dbus.DBusError):
        dbus.message_size(data)


@given(st.binary(max_size=200))
def test_a_malformed_message_is_an_error_of_ours(junk):
    try:
        dbus.unpack(b"l\1\0\1" + junk)
    except dbus.DBusError:
        return


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("unix:path=/run/bus", "/run/bus"),
        ("tcp:host=x;unix:abstract=/tmp/a%20b,guid=1", "\0/tmp/a b"),
    ],
)
def test_addresses(address, path):
    assert dbus.parse_address(address) == path


def test_an_address_that_is_no_socket():
    with pytest.raises(dbus.DBusError, match="no unix socket"):
        dbus.parse_address("tcp:host=localhost")


def test_a_peer_that_refuses(short_tmp):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(short_tmp / "s"))
        server.listen()

        def refuse():
            peer, _ = server.accept()
            with peer:
                peer.recv(100)
                peer.sendall(b"REJECTED EXTERNAL\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(dbus.DBusError, match="authentication was refused"):
            dbus.Connection(str(short_tmp / "s"))
        thread.join()


CONFIG = """<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy></busconfig>"""


def test_the_real_daemon(short_tmp):
    import shutil

    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not here")
    (short_tmp / "conf").write_text(CONFIG.format(path=short_tmp / "bus"))
    argv = ["dbus-daemon", f"--config-file={short_tmp}/conf", "--nofork", "--nopidfile", "--print-address"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().decode().strip()
        try:
            with dbus.Connection(dbus.parse_address(address)) as bus:
                names = bus.call(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "ListNames")[0]
                assert dbus.BUS in names
                bus.call(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "AddMatch", "s", "type='signal'")
                assert bus.call(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "RequestName", "su", "x.y", 0) == [1]
                body = bus.wait_signal(dbus.BUS, "NameOwnerChanged", 0, "x.y", 5)
                assert body[2] in bus.call(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "ListNames")[0]
                with pytest.raises(dbus.DBusError) as caught:
                    bus.call("no.such.name", "/", "no.such.name", "X")
                assert caught.value.name == "org.freedesktop.DBus.Error.ServiceUnknown"
                with pytest.raises(TimeoutError):
                    bus.wait_signal(dbus.BUS, "NameOwnerChanged", 0, "never", 0.05)
        finally:
            daemon.terminate()
