from __future__ import annotations

from local.chaos import plan
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


def test_scripts_speak_of_activities_that_there_are() -> None:
    for work in plan.draw(7, 60).work:
        known = {activity for shape in SHAPES.values() for activity in shape}
        assert set(work.script) <= known
