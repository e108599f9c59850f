"""The tree of a transfer, from the messages that containerd's transfer service sends; byte-level, from containerd 2's ctr."""

from __future__ import annotations

from pycontainerd.ctr import transfer_view
from pycontainerd.ctr.image_inspect import indented
from pycontainerd.lib.api.light import transfer_types, types

DIGEST = "sha256:" + "0123456789ab" + "c" * 52
FULL, EMPTY = "|" + "+" * 38 + "|", "|" + "-" * 38 + "|"


def said(event: str, name: str = "", **fields) -> transfer_types.Progress:
    return transfer_types.Progress(event=event, name=name, **fields)


def shown(capfd, *messages: transfer_types.Progress) -> list[str]:
    view = transfer_view.TransferView()
    for message in messages:
        view.take(message)
    view.finish()
    return capfd.readouterr().out.splitlines()


def test_what_refers_to_what_is_a_tree(capfd) -> None:
    index, manifest, layer = f"index-{DIGEST}", f"manifest-{DIGEST}", f"layer-{DIGEST}"
    desc = types.Descriptor(media_type="application/x", digest=DIGEST, size=5)
    lines = shown(
        capfd,
        said("Resolving from R"),
        said("fetching image content", "h/x:1", desc=desc),
        said("waiting", index, parents=["h/x:1"]),
        said(
            "downloading", layer, parents=[manifest], progress=512, total=1024
        ),  # its parent isn't known yet
        said("resolving", manifest, parents=[index]),
        said("downloading", layer, parents=[manifest], progress=512, total=1024),
        said("complete", index, parents=["h/x:1"], progress=5, total=5),
        said("Completed pull"),
    )
    assert lines == [
        f"{'h/x:1':<40}\tfetching image content\t",
        f"{'└──index (0123456789ab)':<40}\tcomplete   \t{FULL}\t",
        f"{'   └──manifest (0123456789ab)':<40}\tresolving  \t{EMPTY}\t",
        f"{'      └──layer (0123456789ab)':<40}\tdownloading\t|{'+' * 19}{'-' * 19}|\t 512.0 B/1.0 KiB\t",
        f"application/x {DIGEST}",
        lines[-1],
    ]
    assert lines[-1].startswith("Completed pull\telapsed: 0.0 s\ttotal:  517.0 \t(")


def test_several_children_and_roots(capfd) -> None:
    lines = shown(
        capfd,
        said("saved", "a"),
        said("waiting", "b", parents=["a"]),
        said("extracting", "c", parents=["a"], progress=3),
        said("extracted", "d", parents=["b", "c"]),
        said("strange event", "e"),
        said("already exists", "f", parents=["nobody"]),
    )
    names = [line.partition("\t")[0].rstrip() for line in lines[:-1]]
    assert names == ["a", "├──b", "│  └──d", "└──c", "   └──d", "e", "f"]
    assert lines[3].endswith(f"\textracting \t{EMPTY}\t   3.0 B/0.0 B\t")
    assert lines[5].endswith("\tstrange event\t")


def test_a_long_name_is_cut_and_one_without_a_digest_is_whole(capfd) -> None:
    assert shown(capfd, said("saved", "n" * 50))[0] == f"{'n' * 40}\tsaved\t"
    assert transfer_view.short_name("a-b:1") == "a b:1"
    assert transfer_view.short_name(f"x@{DIGEST}") == f"x@{DIGEST}"


def test_documents_are_indented_as_gos_encoder_does() -> None:
    assert indented('{"a":[1,2.50,{"b":null}],"c":"x, {\\"y\\": 1}","d":{},"e":[ ]}') == (
        '{\n   "a": [\n      1,\n      2.50,\n      {\n         "b": null\n      }\n   ],\n'
        '   "c": "x, {\\"y\\": 1}",\n   "d": {},\n   "e": []\n}'
    )
