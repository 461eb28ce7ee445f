"""What somebody sees of orchestrations, and does to them, whose rights have bounds."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.access.model import Access, Action, Resource, Right
from cfm_core.clock import system_clock
from cfm_core.contracts.orchestration import DEPLOY, OrchestrationManifest
from cfm_core.errors import ForbiddenError, NotFoundError
from cfm_core.provisioning.definitions.model import Activity
from cfm_core.provisioning.operations.model import Order, Resolution
from cfm_core.provisioning.operations.service import Operations
from cfm_core.provisioning.orchestrations.service import Orchestrations
from cfm_core.query import Page, parse
from tests.contract.provisioning.world import Driver, World, define

ORDER = Order(actor="alice", reason="because", request_id="r")
MINE, OTHER, ALSO_MINE = "t1-run", "t2-run", "t1-other-profile"
RUNS = {MINE: ("t1", "p1"), OTHER: ("t2", "p2"), ALSO_MINE: ("t1", "p3")}


def manifest(id_: str, tenant: str, profile: str) -> OrchestrationManifest:
    return OrchestrationManifest(
        id=id_, correlation_id=profile, orchestration_type=DEPLOY, payload={"cfm.tenant.id": tenant}
    )


@pytest.fixture
def runs(world: World, driver: Driver) -> World:
    """Two runs of a tenant and one of another; and what is to start later of each tenant."""
    define(world, deploy=[Activity("a", "t.one")])
    later = system_clock() + timedelta(days=1)
    for id_, (tenant, profile) in RUNS.items():
        driver.start(manifest(id_, tenant, profile))
        world.orchestrations.start(manifest(f"{id_}-later", tenant, profile), later)
    return world


def orchestrations(world: World, *rights: Right) -> Orchestrations:
    return world.orchestrations.within(Access(rights))


def operations(world: World, *rights: Right) -> Operations:
    return world.operations.within(Access(rights))


def on(action: Action, **bounds: str) -> Right:
    return Right(action, Resource.ORCHESTRATION, **bounds)


def with_later(*ids: str) -> list[str]:
    return sorted(one for id_ in ids for one in (id_, f"{id_}-later"))


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([{"tenant_id": "t1"}], [MINE, ALSO_MINE]),
        ([{"participant_profile_id": "p1"}], [MINE]),
        ([{"tenant_id": "t1", "participant_profile_id": "p3"}], [ALSO_MINE]),
        ([{"tenant_id": "t1", "participant_profile_id": "p2"}], []),
        ([{"participant_profile_id": "p2"}, {"tenant_id": "t1", "participant_profile_id": "p1"}], [MINE, OTHER]),
        ([{}], [MINE, OTHER, ALSO_MINE]),
        ([{"tenant_id": "nobody"}], []),
    ],
)
def test_orchestrations_belong_to_their_tenant_and_their_profile(
    runs: World, bounds: list[dict[str, str]], expected: list[str]
) -> None:
    me = orchestrations(runs, *(on(Action.READ, **one) for one in bounds))
    found = me.select(parse("true"), Page())
    assert [entry["id"] for entry in json.loads(found.json)] == with_later(*expected)
    assert found.total == 2 * len(expected)
    assert [entry["id"] for entry in json.loads(me.select(parse("state = 1"), Page()).json)] == sorted(expected)
    for id_ in with_later(*RUNS):
        if id_ in with_later(*expected):
            assert me.get(id_).id == id_
            me.history(id_)
        else:
            with pytest.raises(NotFoundError):
                me.get(id_)
            with pytest.raises(NotFoundError):
                me.history(id_)


def test_pages_and_cursors_know_nothing_of_what_is_not_theirs(runs: World) -> None:
    me = orchestrations(runs, on(Action.READ, tenant_id="t1"))
    seen, after = [], ""
    while True:
        page = me.select(parse("true"), Page(limit=1, after=after))
        seen += [entry["id"] for entry in json.loads(page.json)]
        assert page.total == 4
        if not page.more:
            break
        after = page.last
    assert seen == with_later(MINE, ALSO_MINE)


def test_without_a_right_everything_is_refused(runs: World) -> None:
    nobody = orchestrations(runs, Right(Action.READ, Resource.TENANT), on(Action.DELETE))
    for call in (
        lambda: nobody.get(MINE),
        lambda: nobody.history(MINE),
        lambda: nobody.select(parse("true"), Page()),
        lambda: nobody.start(manifest("new", "t1", "p1")),
    ):
        with pytest.raises(ForbiddenError):
            call()


def test_only_who_may_start_any_orchestration_starts_one(runs: World) -> None:
    for bounds in ({"tenant_id": "t1"}, {"participant_profile_id": "p1"}):
        me = orchestrations(runs, on(Action.ANY, **bounds))
        # Neither a new one, nor one whose id is known: that would show it.
        for id_ in ("new", OTHER, MINE):
            with pytest.raises(ForbiddenError):
                me.start(manifest(id_, "t1", "p1"))
            with pytest.raises(ForbiddenError):
                me.start(manifest(id_, "t1", "p1"), system_clock())
    assert orchestrations(runs, on(Action.CREATE)).start(manifest("new", "t1", "p1")).id == "new"


ACTIONS: dict[str, Callable[[Operations, str], Any]] = {
    "pause": lambda one, id_: one.pause(id_, ORDER),
    "resume": lambda one, id_: one.resume(id_, ORDER),
    "cancel": lambda one, id_: one.cancel(id_, ORDER, compensate=False),
    "retry": lambda one, id_: one.retry(id_, ORDER),
    "rerun": lambda one, id_: one.rerun(id_, ORDER),
    "compensate": lambda one, id_: one.compensate(id_, ORDER, force=True),
    "retry_activity": lambda one, id_: one.retry_activity(id_, "a", ORDER),
    "resolve_activity": lambda one, id_: one.resolve_activity(id_, "a", ORDER, Resolution({}, {})),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_done_to_what_is_not_theirs(runs: World, action: str) -> None:
    me = operations(runs, on(Action.ANY, tenant_id="t1"))
    before = runs.orchestrations.get(OTHER), runs.orchestrations.get(f"{OTHER}-later")
    told = set()
    for id_ in (OTHER, f"{OTHER}-later", "unknown"):
        with pytest.raises(NotFoundError) as refused:
            ACTIONS[action](me, id_)
        told.add(str(refused.value).replace(id_, "<id>"))
    assert len(told) == 1
    assert (runs.orchestrations.get(OTHER), runs.orchestrations.get(f"{OTHER}-later")) == before
    assert json.loads(runs.audit.select("true", Page()).json) == []


@pytest.mark.parametrize("action", ACTIONS)
def test_what_may_be_seen_and_not_changed_is_refused(runs: World, action: str) -> None:
    me = operations(
        runs, on(Action.READ), on(Action.UPDATE, tenant_id="t1"), on(Action.CREATE, tenant_id="t1"), on(Action.DELETE)
    )
    with pytest.raises(ForbiddenError):
        ACTIONS[action](me, OTHER)
    with pytest.raises(NotFoundError):
        ACTIONS[action](me, "unknown")


def test_their_own_are_paused_resumed_cancelled_and_run_again(runs: World, driver: Driver) -> None:
    me = operations(runs, on(Action.UPDATE, tenant_id="t1"), on(Action.CREATE, tenant_id="t1"))
    for action in ("pause", "resume", "cancel"):
        ACTIONS[action](me, MINE)
    driver.complete(MINE, "a")
    assert me.rerun(MINE, ORDER).id == f"{MINE}.again"
    assert runs.orchestrations.get(f"{MINE}.again").tenant_id == "t1"


def test_a_rerun_is_a_start(runs: World) -> None:
    me = operations(runs, on(Action.UPDATE, tenant_id="t1"))
    ACTIONS["cancel"](me, MINE)
    with pytest.raises(ForbiddenError, match="no right to create orchestration"):
        me.rerun(MINE, ORDER)


def test_who_may_not_start_any_orchestration_chooses_no_id(runs: World) -> None:
    me = operations(runs, on(Action.ANY, tenant_id="t1"))
    ACTIONS["cancel"](me, MINE)
    for id_ in (OTHER, "new"):
        with pytest.raises(ForbiddenError):
            me.rerun(MINE, ORDER, new_id=id_)


def test_data_are_given_by_those_only_who_may_change_any_orchestration(runs: World) -> None:
    resolution = Resolution({"participantContextId": "another's"}, {})
    with pytest.raises(ForbiddenError):
        operations(runs, on(Action.ANY, tenant_id="t1")).resolve_activity(MINE, "a", ORDER, resolution)
    operations(runs, on(Action.UPDATE)).resolve_activity(MINE, "a", ORDER, resolution)


def test_data_are_erased_by_those_whose_profile_they_are_about(runs: World, driver: Driver) -> None:
    for rights in ([on(Action.ANY, tenant_id="t1")], [on(Action.ANY, participant_profile_id="p2")]):
        with pytest.raises(ForbiddenError):
            operations(runs, *rights).erase("p1", ORDER)
    driver.complete(MINE, "a")
    runs.operations.cancel(f"{MINE}-later", ORDER, compensate=False)
    assert operations(runs, on(Action.DELETE, participant_profile_id="p1")).erase("p1", ORDER) == 2


def test_an_archived_run_belongs_to_whom_it_did(runs: World, driver: Driver) -> None:
    for id_ in RUNS:
        driver.complete(id_, "a")
    runs.archive()
    me = orchestrations(runs, on(Action.READ, tenant_id="t1"))
    assert me.get(MINE).id == MINE
    with pytest.raises(NotFoundError):
        me.get(OTHER)
    found = me.select(parse("state = 2"), Page())
    assert [entry["id"] for entry in json.loads(found.json)] == sorted([MINE, ALSO_MINE])
