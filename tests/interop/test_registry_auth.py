"""A docker-registry that wants a password: --user, docker's login, and neither (I07's honest side)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from support import images

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.requires("root", "overlayfs"), pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory):
    """host:port/library/busybox:latest behind Basic authorization."""
    folder = tmp_path_factory.mktemp("guarded")
    with images.private_registry(folder) as host:
        images.push(
            images.build_layout(folder / "layout"), f"{host}/library/busybox:latest", credentials="me:secret"
        )
        yield f"{host}/library/busybox:latest"


def pull(stack, ref: str, *flags: str):
    return stack.pyctr("-n", "auth", "image", "pull", *flags, ref, check=False)


def test_without_a_password_the_error_says_what_is_missing(our_stack, guarded: str) -> None:
    done = pull(our_stack, guarded)
    assert done.returncode == 1
    assert f'failed to resolve reference "{guarded}"' in done.stderr
    assert (
        "pull access denied, repository does not exist or may require authorization: "
        "authorization failed: no basic auth credentials"
    ) in done.stderr


def test_a_wrong_password_is_refused(our_stack, guarded: str) -> None:
    done = pull(our_stack, guarded, "--user", "me:wrong")
    assert done.returncode == 1
    assert "pull access denied" in done.stderr
    assert "wrong" not in done.stderr


def test_user_and_password(our_stack, guarded: str) -> None:
    assert pull(our_stack, guarded, "--user", "me:secret").returncode == 0
    our_stack.pyctr("-n", "auth", "image", "rm", "--sync", guarded)


def test_dockers_login(our_stack, guarded: str, tmp_path: Path) -> None:
    auth = base64.b64encode(b"me:secret").decode()
    host = guarded.partition("/")[0]
    (tmp_path / "config.json").write_text(f'{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}')
    before = dict(our_stack.environment)
    our_stack.environment["DOCKER_CONFIG"] = str(tmp_path)
    try:
        assert pull(our_stack, guarded).returncode == 0
    finally:
        our_stack.environment = before
    our_stack.pyctr("-n", "auth", "image", "rm", "--sync", guarded)
