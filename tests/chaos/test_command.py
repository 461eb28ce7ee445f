from __future__ import annotations

import json

from tests.support.command import cfm


def test_a_run_that_breaks_no_rule_ends_with_a_summary() -> None:
    done = cfm("chaos", "--seed", "5", "--minutes", "0", "--seconds", "2", "--rate", "8")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["runs"] == [5]
    assert summary["violations"] == {}
    assert summary["executions"]["needed"] > 0


def test_a_plan_is_shown_without_being_carried_out() -> None:
    done = cfm("chaos", "--seed", "5", "--seconds", "10", "--plan")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["seed"] == 5
    assert {"at", "kind", "target", "seconds"} <= shown["faults"][0].keys()
