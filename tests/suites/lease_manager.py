"""What every lease manager does: `class TestX(LeaseManagerSuite)` with a `leases` fixture gets all of it."""

from __future__ import annotations

import pytest

from pycontainerd.daemon.core.leases import Lease, Resource
from pycontainerd.daemon.core.scope import Scope
from pycontainerd.lib.errdefs import AlreadyExists, InvalidArgument, NotFound, Unimplemented

ONE = Scope("one")
TWO = Scope("two")
DIGEST = "sha256:" + "0" * 64


class LeaseManagerSuite:
    """Contract of core.leases.LeaseManager."""

    def test_a_lease_is_listed_until_it_is_deleted(self, leases):
        created = leases.create(ONE, Lease("l", {"a": "b"}))
        assert created.created_nanos > 0
        assert list(leases.list(ONE, ())) == [created]
        leases.delete(ONE, "l")
        assert list(leases.list(ONE, ())) == []

    def test_ids_are_taken_once_per_namespace(self, leases):
        leases.create(ONE, Lease("l"))
        leases.create(TWO, Lease("l"))
        with pytest.raises(AlreadyExists, match='lease "l": already exists'):
            leases.create(ONE, Lease("l"))

    def test_lists_are_filtered_and_sorted(self, leases):
        for id in ("b", "a", "c"):
            leases.create(ONE, Lease(id, {"even": "yes"} if id == "b" else {}))
        assert [lease.id for lease in leases.list(ONE, ())] == ["a", "b", "c"]
        assert [lease.id for lease in leases.list(ONE, ["id==c", "labels.even==yes"])] == ["b", "c"]
        with pytest.raises(InvalidArgument):
            leases.list(ONE, ["id=c"])

    def test_resources_are_held_once(self, leases):
        leases.create(ONE, Lease("l"))
        resources = [
            Resource("content", DIGEST),
            Resource("ingests", "r"),
            Resource("snapshots/overlayfs", "k"),
        ]
        for resource in resources * 2:
            leases.add_resource(ONE, "l", resource)
        assert list(leases.list_resources(ONE, "l")) == resources
        leases.delete_resource(ONE, "l", resources[1])
        leases.delete_resource(ONE, "l", resources[1])
        assert list(leases.list_resources(ONE, "l")) == [resources[0], resources[2]]

    def test_an_unknown_lease_is_not_found(self, leases):
        for call in (
            lambda: leases.delete(ONE, "l"),
            lambda: leases.list_resources(ONE, "l"),
            lambda: leases.add_resource(ONE, "l", Resource("content", DIGEST)),
            lambda: leases.delete_resource(ONE, "l", Resource("content", DIGEST)),
        ):
            with pytest.raises(NotFound, match='lease "l": not found'):
                call()

    @pytest.mark.parametrize(
        ("kind", "id", "error"),
        [
            ("content", "nodigest", InvalidArgument),
            ("content/x", DIGEST, InvalidArgument),
            ("snapshots", "k", InvalidArgument),
            ("snapshots/a/b", "k", InvalidArgument),
            ("tasks", "t", Unimplemented),
        ],
    )
    def test_bad_resources_are_refused(self, leases, kind, id, error):
        leases.create(ONE, Lease("l"))
        with pytest.raises(error):
            leases.add_resource(ONE, "l", Resource(kind, id))
        assert list(leases.list_resources(ONE, "l")) == []
