"""Documents of converted images: Go's order of keys, and nothing lost that nobody knows."""

from __future__ import annotations

from pycontainerd.client import convert
from pycontainerd.lib import digest as digests
from pycontainerd.lib.oci import document as documents
from pycontainerd.lib.oci import image as oci

OLD = oci.Descriptor(oci.LAYER_GZIP, digests.of(b"old"), 3)
NEW = oci.Descriptor(oci.LAYER, digests.of(b"newer"), 5)


def test_known_keys_come_in_gos_order_and_others_stay() -> None:
    entry = {
        "platform": {"os": "linux", "x": 1, "architecture": "amd64"},
        "size": 3,
        "org.example": {"a": [1]},
        "digest": str(OLD.digest),
        "annotations": {"k": "v"},
        "mediaType": oci.LAYER_GZIP,
    }
    written = documents.dumps(convert._rewritten(entry, OLD, NEW))
    assert written == (
        f'{{"mediaType":"{oci.LAYER}","digest":"{NEW.digest}","size":5,"annotations":{{"k":"v"}},'
        '"platform":{"architecture":"amd64","os":"linux","x":1},"org.example":{"a":[1]}}'
    )


def test_what_leads_to_the_old_bytes_goes() -> None:
    entry = {
        "mediaType": oci.LAYER_GZIP,
        "digest": str(OLD.digest),
        "size": 3,
        "urls": ["http://x"],
        "data": "b2xk",
    }
    assert set(convert._rewritten(entry, OLD, NEW)) == {"mediaType", "digest", "size"}
    same = oci.Descriptor(oci.LAYER, OLD.digest, 3)
    assert {"urls", "data"} <= set(convert._rewritten(entry, OLD, same))


def test_empty_ones_are_left_out_as_go_does() -> None:
    document = {"annotations": {}, "layers": [], "schemaVersion": 2, "subject": None}
    ordered = convert._ordered(document, ("schemaVersion", "layers", "annotations"))
    assert documents.dumps(ordered) == '{"schemaVersion":2,"layers":[],"subject":null}'
