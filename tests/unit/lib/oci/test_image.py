"""Image documents: strict where attackers write, lenient where the spec says so (I04, I05, I08, I13)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainerd.lib.errdefs import InvalidArgument
from pycontainerd.lib.oci import image

D = "sha256:" + "1" * 64


def descriptor(**changes: object) -> dict[str, object]:
    return {"mediaType": image.LAYER_GZIP, "digest": D, "size": 3, **changes}


def manifest(**changes: object) -> bytes:
    document = {"schemaVersion": 2, "config": descriptor(mediaType=image.CONFIG), "layers": [descriptor()]}
    return json.dumps({**document, **changes}).encode()


def test_manifest() -> None:
    parsed = image.parse_manifest(manifest(annotations={"a": "b"}, unknown=1), image.MANIFEST)
    assert [layer.digest for layer in parsed.layers] == [D]
    assert (parsed.config.media_type, parsed.annotations) == (image.CONFIG, {"a": "b"})


@pytest.mark.parametrize(
    "digest",
    [None, 1, "", "sha256:", "sha256:../../etc", "sha256:" + "G" * 64, "x" * (1 << 20), [], {}, True],
)
def test_a_bad_digest_anywhere_is_invalid_argument(digest: object) -> None:
    with pytest.raises(InvalidArgument):
        image.parse_manifest(manifest(config=descriptor(digest=digest)))
    with pytest.raises(InvalidArgument):
        image.parse_manifest(manifest(layers=[descriptor(digest=digest)]))
    with pytest.raises(InvalidArgument):
        image.parse_index(json.dumps({"manifests": [descriptor(digest=digest)]}).encode())
    with pytest.raises(InvalidArgument):
        image.parse_config(json.dumps({"rootfs": {"diff_ids": [digest]}}).encode())


@pytest.mark.parametrize("size", [None, -1, 1.5, "3", True, 1 << 63])
def test_a_bad_size_is_invalid_argument(size: object) -> None:
    with pytest.raises(InvalidArgument):
        image.parse_manifest(manifest(layers=[descriptor(size=size)]))


def test_ambiguous_documents_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="both"):
        image.parse_manifest(manifest(manifests=[]))
    with pytest.raises(InvalidArgument, match="both"):
        image.parse_index(manifest(manifests=[]))
    with pytest.raises(InvalidArgument, match="served"):
        image.parse_manifest(manifest(mediaType=image.INDEX), image.MANIFEST)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}{}",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b"\xff",
        b"{" * 100_000,
        b" " * (image.MAX_DOCUMENT_BYTES + 1),
    ],
)
def test_only_one_plain_object_is_json_here(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        image.load(data, "document")


def test_config_takes_the_nulls_that_docker_writes() -> None:
    parsed = image.parse_config(
        json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": None, "Cmd": ["sh"], "Labels": None},
                "rootfs": {"type": "layers", "diff_ids": [D]},
            }
        ).encode()
    )
    assert (parsed.env, parsed.cmd, parsed.labels, parsed.diff_ids) == ([], ["sh"], {}, [D])


@pytest.mark.parametrize("entry", ["SECRET", "*", "=x", "", "A\0=b"])
def test_env_entries_without_a_name_are_refused(entry: str) -> None:
    with pytest.raises(InvalidArgument):
        image.parse_config(json.dumps({"config": {"Env": [entry]}}).encode())


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    ["config", "layers", "manifests", "mediaType", "digest", "size", "annotations"]
                ),
                x,
            )
        ),
    )
)
def test_no_document_raises_anything_but_invalid_argument(value: object) -> None:
    data = json.dumps(value).encode()
    for parse in (image.parse_manifest, image.parse_index, image.parse_config):
        try:
            parse(data)
        except InvalidArgument:
            continue
