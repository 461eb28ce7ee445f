from __future__ import annotations

import pytest

from cfm_core.access.model import (
    ALL,
    EVERYTHING,
    NOTHING,
    Access,
    Action,
    Bound,
    Bounds,
    Resource,
    Right,
    need_of,
    pointless_bounds,
    without_names,
)
from cfm_core.errors import ConflictError, FatalError, ForbiddenError, NotFoundError

T, P, V, C = "tenant-1", "profile-1", "vpa-1", "cell-1"
KINDS = [one for one in Resource if one is not Resource.ANY]
ACTIONS = [one for one in Action if one is not Action.ANY]


@pytest.mark.parametrize("resource", KINDS)
@pytest.mark.parametrize("action", ACTIONS)
def test_who_may_do_everything_may_do_this(action: Action, resource: Resource) -> None:
    assert EVERYTHING.bounds(action, resource) == ALL
    assert EVERYTHING.everything


@pytest.mark.parametrize("resource", KINDS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_right_allows_its_action_on_its_kind_and_nothing_else(action: Action, resource: Resource) -> None:
    access = Access([Right(action, resource)])
    allowed = {(a, k) for a in ACTIONS for k in KINDS if not access.bounds(a, k).nothing}
    of_vpas = resource is Resource.VPA and action in {Action.READ, Action.DEPLOY, Action.DISPOSE}
    with_the_profile = {(action, Resource.PARTICIPANT_PROFILE)} if of_vpas else set()
    assert allowed == {(action, resource)} | with_the_profile
    assert not access.everything


def test_a_right_for_any_kind_allows_something_with_those_only_that_belong_to_its_bound() -> None:
    access = Access([Right(Action.ANY, Resource.ANY, tenant_id=T)])
    allowed = {kind for kind in KINDS if not access.bounds(Action.READ, kind).nothing}
    within = {Resource.TENANT, Resource.PARTICIPANT_PROFILE, Resource.VPA, Resource.ORCHESTRATION, Resource.AUDIT}
    assert allowed == within
    assert access.bounds(Action.UPDATE, Resource.TENANT) == Bounds((Bound(T),))
    assert not access.everything


def test_the_bounds_of_several_rights_are_alternatives() -> None:
    access = Access(
        [
            Right(Action.READ, Resource.ORCHESTRATION, tenant_id=T),
            Right(Action.READ, Resource.ORCHESTRATION, participant_profile_id=P),
            Right(Action.READ, Resource.ORCHESTRATION, "tenant-2", "profile-2"),
        ]
    )
    bounds = access.bounds(Action.READ, Resource.ORCHESTRATION)
    assert (bounds.tenants(), bounds.participant_profiles(), bounds.cells()) == ([T], [P], [])
    assert bounds.others() == (Bound("tenant-2", "profile-2"),)
    assert bounds.allow(Bound(T, "any"))
    assert bounds.allow(Bound("other", P))
    assert bounds.allow(Bound("tenant-2", "profile-2"))
    assert not bounds.allow(Bound("tenant-2", "another"))


def test_a_right_without_bounds_makes_those_of_others_no_matter() -> None:
    access = Access([Right(Action.READ, Resource.CELL, cell_id=C), Right(Action.READ, Resource.CELL)])
    assert access.bounds(Action.READ, Resource.CELL).unlimited
    assert access.bounds(Action.READ, Resource.CELL) == ALL


def test_nothing_is_refused_with_a_reason() -> None:
    access = Access([Right(Action.READ, Resource.TENANT, tenant_id=T)])
    with pytest.raises(ForbiddenError, match="no right to update tenant"):
        access.require(Action.UPDATE, Resource.TENANT)
    with pytest.raises(ForbiddenError, match="no right to read tenant"):
        access.require_all(Action.READ, Resource.TENANT)
    assert access.bounds(Action.UPDATE, Resource.TENANT) == NOTHING
    assert not access.bounds(Action.READ, Resource.ANY).nothing
    assert access.bounds(Action.UPDATE, Resource.ANY).nothing


def test_what_may_be_seen_and_not_changed_is_refused_and_all_else_unknown() -> None:
    access = Access([Right(Action.READ, Resource.TENANT), Right(Action.UPDATE, Resource.TENANT, tenant_id=T)])
    unknown = NotFoundError("tenant", "x")
    assert access.why_not(Action.UPDATE, Resource.TENANT, unknown, lambda _: False) is unknown
    assert isinstance(access.why_not(Action.UPDATE, Resource.TENANT, unknown, lambda _: True), ForbiddenError)
    blind = Access([Right(Action.UPDATE, Resource.TENANT, tenant_id=T)])
    assert blind.why_not(Action.UPDATE, Resource.TENANT, unknown, lambda _: True) is unknown


@pytest.mark.parametrize(
    ("held", "given", "may"),
    [
        (Right(Action.ANY, Resource.ANY), Right(Action.ANY, Resource.ANY), True),
        (Right(Action.ANY, Resource.ANY), Right(Action.READ, Resource.ROLE), True),
        (Right(Action.ANY, Resource.ANY), Right(Action.READ, Resource.VPA, T, P, V, C), True),
        (Right(Action.READ, Resource.TENANT), Right(Action.READ, Resource.TENANT), True),
        (Right(Action.READ, Resource.TENANT), Right(Action.READ, Resource.TENANT, T), True),
        (Right(Action.READ, Resource.TENANT), Right(Action.UPDATE, Resource.TENANT), False),
        (Right(Action.READ, Resource.TENANT), Right(Action.READ, Resource.CELL), False),
        (Right(Action.READ, Resource.TENANT), Right(Action.ANY, Resource.TENANT), False),
        (Right(Action.READ, Resource.TENANT), Right(Action.READ, Resource.ANY), False),
        (Right(Action.READ, Resource.TENANT, T), Right(Action.READ, Resource.TENANT), False),
        (Right(Action.READ, Resource.TENANT, T), Right(Action.READ, Resource.TENANT, "tenant-2"), False),
        (Right(Action.ANY, Resource.ANY, T), Right(Action.READ, Resource.VPA, T), True),
        (Right(Action.ANY, Resource.ANY, T), Right(Action.READ, Resource.VPA, T, P), True),
        # That the profile is one of the tenant is not known from the ids.
        (Right(Action.ANY, Resource.ANY, T), Right(Action.READ, Resource.VPA, "", P), False),
        (Right(Action.ANY, Resource.ANY, T), Right(Action.ANY, Resource.ANY), False),
        (Right(Action.ANY, Resource.ANY, T), Right(Action.READ, Resource.USER), False),
    ],
)
def test_nobody_gives_a_right_that_they_do_not_have(held: Right, given: Right, may: bool) -> None:
    access = Access([held])
    if may:
        access.check_granted([given])
    else:
        with pytest.raises(ForbiddenError, match="nobody can give a right that they do not have"):
            access.check_granted([held, given])


def test_a_refused_grant_names_the_right() -> None:
    with pytest.raises(ForbiddenError, match=f"read vpa of tenantId {T}, cellId {C}"):
        Access(()).check_granted([Right(Action.READ, Resource.VPA, tenant_id=T, cell_id=C)])


@pytest.mark.parametrize("resource", KINDS)
def test_only_bounds_to_which_something_of_the_kind_belongs_mean_anything(resource: Resource) -> None:
    right = Right(Action.READ, resource, T, P, V, C)
    expected = {
        Resource.TENANT: ("participantProfileId", "vpaId", "cellId"),
        Resource.PARTICIPANT_PROFILE: ("vpaId",),
        Resource.VPA: (),
        Resource.ORCHESTRATION: ("vpaId", "cellId"),
        Resource.AUDIT: ("vpaId", "cellId"),
        Resource.CELL: ("tenantId", "participantProfileId", "vpaId"),
        Resource.DATASPACE_PROFILE: ("tenantId", "participantProfileId", "vpaId"),
    }
    assert pointless_bounds(right) == expected.get(resource, ("tenantId", "participantProfileId", "vpaId", "cellId"))


def test_who_uses_something_is_told_to_those_only_who_may_see_all_of_that_kind() -> None:
    error = ConflictError(
        "cell c is in use by participantProfile p", {"usedBy": [{"kind": "x", "id": "p"}], "state": 1}
    )
    reader = Access([Right(Action.READ, Resource.PARTICIPANT_PROFILE)])
    assert without_names(error, reader, Resource.PARTICIPANT_PROFILE) is error
    told = without_names(
        error, Access([Right(Action.READ, Resource.PARTICIPANT_PROFILE, T)]), Resource.PARTICIPANT_PROFILE
    )
    assert (str(told), told.context) == ("it is in use", {"state": 1})


def test_a_need_is_an_action_and_a_kind() -> None:
    assert need_of("read participantProfile") == (Action.READ, Resource.PARTICIPANT_PROFILE)
    for wrong in ("read", "look tenant", "read tenants", "", "read tenant now"):
        with pytest.raises(FatalError, match="no right is"):
            need_of(wrong)
