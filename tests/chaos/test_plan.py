from __future__ import annotations

from cfm_core.contracts.orchestration import DISPOSE
from local.chaos import plan
from local.chaos.operators import ORDERS
from local.chaos.plan import PROCESSES, WIRES
from local.chaos.shapes import SHAPES


def test_a_seed_has_one_plan() -> None:
    assert plan.draw(7, 30) == plan.draw(7, 30)
    assert plan.draw(7, 30) != plan.draw(8, 30)


def test_every_process_and_wire_is_hit_by_some_seed() -> None:
    faults = [fault for seed in range(40) for fault in plan.draw(seed, 30).faults]
    hit = {(fault.kind, fault.target) for fault in faults}
    assert hit == {
        *((kind, process) for kind in ("kill", "pause", "restart") for process in PROCESSES),
        *(("cut", wire) for wire in WIRES),
        ("wipe", "nats"),
    }


def test_a_process_that_is_spared_is_left_alone_and_nothing_else_changes() -> None:
    whole, spared = plan.draw(7, 60), plan.draw(7, 60, spared=[plan.AGENT])
    assert plan.AGENT in {fault.target for fault in whole.faults}
    assert spared.faults == tuple(fault for fault in whole.faults if fault.target != plan.AGENT)
    assert (spared.work, spared.holds, spared.messages) == (whole.work, whole.holds, whole.messages)


def test_there_are_as_many_faults_as_are_asked_for() -> None:
    counts = {every: len(plan.draw(7, 600, every=every).faults) for every in (plan.EVERY, 5.0, 20.0)}
    assert all(abs(count - 600 / every) < 600 / every / 5 for every, count in counts.items())


def test_every_order_is_given_and_known() -> None:
    given = {work.order for work in plan.draw(7, 60).work}
    assert given == {*ORDERS, ""}


def test_every_kind_of_orchestration_is_asked_for_in_every_way() -> None:
    work = plan.draw(7, 60).work
    assert {one.type for one in work} == SHAPES.keys() - {DISPOSE}
    assert any(one.over_bus for one in work)
    assert any(one.starts_after for one in work)
    assert {"large", "measure"} <= {name for one in work for name in one.payload}


def test_scripts_speak_of_activities_that_there_are() -> None:
    for work in plan.draw(7, 60).work:
        known = {activity for shape in SHAPES.values() for activity in shape}
        assert set(work.script) <= known
