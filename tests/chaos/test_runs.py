"""Short runs on a whole stack: nothing is lost, done twice, or out of order. ``cfm chaos`` makes longer ones."""

from __future__ import annotations

import pytest

from local.bench.fabric import Fabric
from local.chaos import plan
from local.chaos.ground import Ground
from local.chaos.run import run

# An activity whose lease ends while the machine is busy with other tests is executed twice, as it should be.
pytestmark = pytest.mark.alone

SECONDS = 12.0
RATE = 8.0
PATIENCE_SECONDS = 90.0
SEEDS = [3]


def test_without_faults_every_activity_is_executed_once(ground: Ground, fabric: Fabric) -> None:
    report = run(plan.calm(1, 3, RATE), ground, fabric, PATIENCE_SECONDS, print)
    assert report.violations == {}
    assert report.executions["perActivity"] == 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_under_faults_no_rule_is_broken(ground: Ground, fabric: Fabric, seed: int) -> None:
    report = run(plan.draw(seed, SECONDS, RATE), ground, fabric, PATIENCE_SECONDS, print)
    assert report.violations == {}
    assert report.faults
    assert report.messages
