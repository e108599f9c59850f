"""What the client asks of the images service."""

from __future__ import annotations

from typing import Any

import pytest

from pycontainerd.client import images
from pycontainerd.lib.api.light import images_v1, types

TARGET = types.Descriptor(media_type="a/b", digest="sha256:" + "0" * 64, size=3)


class Recorder:
    """A client that remembers its requests."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def call(self, _service: object, _method: str, request: Any) -> images_v1.UpdateImageResponse:
        self.sent.append(request.FromString(request.SerializeToString()))
        return images_v1.UpdateImageResponse()


@pytest.mark.parametrize("target", [None, TARGET])
def test_an_update_has_a_target_even_if_only_labels_change(target: types.Descriptor | None) -> None:
    """containerd 1.7.24 ends with a nil pointer otherwise."""
    client = Recorder()
    images.update(client, images_v1.Image(name="x", target=target, labels={"a": "b"}), ["labels.a"])  # type: ignore[arg-type]
    (request,) = client.sent
    assert request.image.HasField("target")
    assert request.image.target == (target or types.Descriptor())
    assert (request.image.labels, request.update_mask.paths) == ({"a": "b"}, ["labels.a"])
