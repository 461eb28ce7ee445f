"""The benchmarks, with so little load that they say nothing but that they run."""

from __future__ import annotations

import json

from local import seed
from tests.support.command import cfm


def test_every_figure_is_there_as_one_json_object() -> None:
    done = cfm("bench", "--deployments", "16", "--seconds", "0.4")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["bareFunction"]["perSecond"] > 0
    assert figures["bareCommits"]["perSecond"] > 0
    assert figures["getTenantToBareFunction"] > 0
    assert figures["getTenantWithToWithoutAuthentication"] > 0
    assert figures["atRest"]["megabytes"] > 0
    for stack in ("withoutAuthentication", "withAuthentication"):
        assert figures[stack]["deploymentLatency"]["medianMs"] > 0
        assert figures[stack]["deploymentRate"]["active"] == 16
        assert figures[stack]["tenants"]["get"]["perSecond"] > 0
        assert figures[stack]["tenants"]["post"]["perSecond"] > 0


def test_queries_are_measured_with_as_many_entities_as_one_likes() -> None:
    done = cfm("bench", "query", "--tenants", "3000", "--profiles", "500", "--seconds", "0.4")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["query"]
    assert all(figure > 0 for figure in figures["medianMs"].values())
    assert {"vpas", "cursorAt90Percent", "numbersOnDeclared", "timesOnUndeclared"} <= figures["medianMs"].keys()
    assert figures["declaring"]["createdMeanwhile"] > 0
    assert figures["longPage"]["raisesByMegabytes"] >= 0
    assert figures["creating"]["ratio"] > 0


def test_the_engine_is_measured_under_load_and_at_rest() -> None:
    done = cfm("bench", "engine", "--deployments", "16", "--runs", "500", "--seconds", "0.1")
    assert done.returncode == 0, done.stderr
    engine = json.loads(done.stdout)["engine"]
    assert engine["deploymentRate"]["active"] == engine["deploymentRate"]["count"] == 16
    loads = [engine["sustained"], engine["hundredInFlight"], *engine["cost"].values()]
    assert len(loads) == 5
    for load in loads:
        assert load["activitiesPerSecond"] > 0
        assert load["overheadMs"]["p99"] >= load["overheadMs"]["median"] > 0
        assert load["cpuMicrosecondsPerActivity"]["postgres"] > 0
    for at_rest in engine["atRestPercent"].values():
        assert at_rest.keys() >= {"postgres", "nats", "trigger", "events", "all"}


def test_the_agents_are_measured_with_participants_that_come_and_go() -> None:
    done = cfm("bench", "agents", "--participants", "6")
    assert done.returncode == 0, done.stderr
    agents = json.loads(done.stdout)["agents"]
    for way in (agents["deploy"], agents["dispose"]):
        assert way["participantsPerSecond"] > 0
        assert way["callsPerParticipant"] > len(seed.ACTIVITY_DEFINITIONS)
        assert way["agentCpuMicrosecondsPerCall"] > 0
        assert way["cpuMicrosecondsPerParticipant"].keys() >= {"agents", "standins", "postgres", "trigger", "all"}
