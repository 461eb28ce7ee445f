"""The demonstration, as the README's first command runs it."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from local import seed, state
from local.demo import ACTIVITIES, STANDINS
from local.onboarding import REFUSALS
from tests.support.command import cfm
from tests.support.processes import has_ended, processes_of


def test_it_onboards_disposes_and_compensates(tmp_path: Path) -> None:
    done = cfm("demo", env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout
    assert re.search(r"POST +/api/v1alpha1/tenants/[0-9a-f-]+/participant-profiles *\n +202", told)
    assert re.search(r"connector-provisioner +failed, again in .* answered 503", told)
    assert re.search(r"onboarding-agent +not yet, again in", told)
    assert "Acme is active: cfm.connector, cfm.credentialservice, cfm.dataplane, cfm.issuer" in told
    assert "a credential request that is ISSUED" in told
    assert told.count("no stand-in knows the participant any more") == 2
    assert "Crane has failed: activity registration-agent" in told
    assert list(tmp_path.glob("cfm-demo-*")) == []


def test_each_activity_of_the_standard_orchestration_can_be_refused() -> None:
    assert (
        set(ACTIVITIES) == set(REFUSALS) == {one["type"].removesuffix("-activity") for one in seed.ACTIVITY_DEFINITIONS}
    )
    assert {service: REFUSALS[activity].service for service, activity in STANDINS.items()} == {
        one: one for one in STANDINS
    }


@pytest.mark.parametrize("name", [*ACTIVITIES, *STANDINS])
def test_a_refusal_is_compensated_and_told(name: str, tmp_path: Path) -> None:
    done = cfm("demo", "--fail", name, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    kind = f"{STANDINS.get(name, name)}-activity"
    first, (refused, *_), undoing = (
        [one["id"] for one in seed.ORCHESTRATION_TEMPLATE["activities"][type_] if wanted in {None, one["type"]}]
        for type_, wanted in ((DEPLOY, None), (DEPLOY, kind), (DISPOSE, None))
    )
    told = {line.split()[0]: line for line in done.stdout.partition("What has happened")[2].splitlines() if line}
    assert re.search(rf"{refused}: .* answered 403", told["failed"])
    assert refused not in told["done"]
    assert ("nothing" in told["done"]) == (refused == first[0])
    assert all(one in told["undone"] for one in undoing)
    assert "nothing: asked from outside, no stand-in knows the participant any more" in told["left"]


def test_the_stack_can_be_kept(tmp_path: Path) -> None:
    done = cfm("demo", "--keep", "--fail", "identityhub", env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    (data,) = tmp_path.glob("cfm-demo-*/data")
    assert str(data) in done.stdout
    running = state.running(data)
    assert running is not None
    assert cfm("status", "--data", data).returncode == 0
    processes = [psutil.Process(running.pid), *processes_of(data)]
    assert cfm("down", "--data", data).returncode == 0
    assert all(has_ended(process) for process in processes)
