"""Block I/O classes: the file's forms, its numbers and its devices."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.ctr import blockio, plain_yaml
from pycontainerd.lib.errdefs import InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path

WANTED = {"Classes": {"low": [{"Weight": "80"}, {"Devices": ["/dev/sda", "/dev/by-id/*SSD*"], "ThrottleReadBps": "50M", "Weight": "20"}], "other": [{"Devices": ["/dev/sdb"]}]}}  # fmt: skip
FORMS = (
    """
# the classes
Classes:
  low:
    - Weight: 80   # for everything else
    - Devices:
        - /dev/sda
        - "/dev/by-id/*SSD*"
      ThrottleReadBps: 50M
      Weight: '20'
  other:
  - Devices: [/dev/sdb]
""",
    """\
Classes:
    low:
    -   Weight: 80
    -
        Devices: [ "/dev/sda", '/dev/by-id/*SSD*' ]
        ThrottleReadBps: 50M
        Weight: 20
    other:
    - Devices:
      - /dev/sdb""",
    json.dumps(WANTED).replace('"80"', "80"),
)


@pytest.mark.parametrize("form", FORMS)
def test_the_usual_forms_are_read(form: str) -> None:
    assert plain_yaml.parse(form) == WANTED


@pytest.mark.parametrize("form", ["- a\nb: c", "a:\n\t- b", "a: 1\na: 2", "a: [1", 'a: "b', "  a: 1\n b: 2", "{", "a: *b"])  # fmt: skip
def test_what_is_not_understood_is_refused(form: str) -> None:
    with pytest.raises(InvalidArgument):
        plain_yaml.parse(form)


@given(st.text(alphabet="ab:-[]{}\"' #\n\t,&", max_size=60))
def test_no_text_does_more_than_be_refused(form: str) -> None:
    with contextlib.suppress(InvalidArgument):
        plain_yaml.parse(form)


@pytest.mark.parametrize(
    ("given", "wanted"), [("80", 80), ("50M", 50_000_000), ("1Ki", 1024), ("1.5k", 1500), ("2 G", 2_000_000_000), ("0.1", 1)]
)  # fmt: skip
def test_numbers(given: str, wanted: int) -> None:
    assert blockio.quantity("Weight", given) == wanted


@pytest.mark.parametrize("given", ["", "x", "1_0", "-1", "1Kii", "i", "1 2", "\u0661", "1..0"])
def test_what_is_no_number(given: str) -> None:
    with pytest.raises(InvalidArgument, match="syntax error in"):
        blockio.quantity("Weight", given)


def test_a_class_becomes_block_io(tmp_path: Path) -> None:
    path = tmp_path / "blockio.yaml"
    path.write_text("classes:\n  low:\n  - weight: 80\n  - devices: [/dev/null]\n    throttlereadbps: 1M\n")
    assert blockio.of_class(str(path), "low") == {"weight": 80}  # /dev/null is no block device
    assert blockio.of_class(str(path), "") is None


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("Classes:\n  a:\n  - Weight: 5\n", r'value of "Weight" \(5\) smaller than minimum \(10\)'),
        ("Classes:\n  a:\n  - Weight: 2000\n", r'value of "Weight" \(2000\) bigger than maximum \(1000\)'),
        ("Classes:\n  a:\n  - Speed: 5\n", 'unknown field "speed"'),
        ("Other: x\n", "a mapping of Classes alone"),
        ("Classes:\n  a:\n  - ThrottleReadBps: 5\n", "Devices not listed"),
        ("Classes: x\n", "not a mapping"),
        ("Classes:\n  a: x\n", "not a list"),
        ("Classes:\n  a:\n  - Weight: [5]\n", '"Weight" is not a number'),
        ("Classes:\n  a:\n  - Devices: [/dev/null]\n    ThrottleReadBps: {a: b}\n", "is not a number"),
        ("Classes:\n  a:\n  - Devices: /dev/null\n", "Devices is not a list of patterns"),
        ("Classes:\n  a:\n  - Devices: [[x]]\n", "Devices is not a list of patterns"),
        ("Classes:\n  a:\n  - Devices:\n    ThrottleReadBps: 5\n", "Devices not listed"),
        ("\udcff", "it is not UTF-8"),
        ("[" * 10_000, "it is nested too deeply"),
        ("#" * (1 << 20) + "\n", "it is larger than 1048576 bytes"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, document: str, said: str) -> None:
    path = tmp_path / "blockio.yaml"
    path.write_bytes(document.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidArgument, match=said) as found:
        blockio.of_class(str(path), "a")
    assert str(found.value).startswith(
        f'blockio-config-file error: failed to set configuration from file "{path}": '
    )


def test_without_a_class_or_a_file() -> None:
    with pytest.raises(InvalidArgument, match='blockio-class error: no OCI BlockIO parameters for class "x"'):
        blockio.of_class("", "x")
    with pytest.raises(
        InvalidArgument, match='failed to read config file "/nosuch": open /nosuch: no such file'
    ):
        blockio.of_class("/nosuch", "x")


def test_a_later_word_on_a_device_counts() -> None:
    out: dict[str, object] = {}
    blockio._put(out, "weightDevice", 8, 0, {"weight": 10})
    blockio._put(out, "weightDevice", 8, 0, {"weight": 20})
    assert out == {"weightDevice": [{"major": 8, "minor": 0, "weight": 20}]}
