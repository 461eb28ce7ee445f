"""The demonstration, as the README's first command runs it."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from local import state
from local.demo import STANDINS
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
    assert "Crane has failed: activity identityhub-provisioner" in told
    assert list(tmp_path.glob("cfm-demo-*")) == []


@pytest.mark.parametrize("standin", STANDINS)
def test_a_refusal_is_compensated(standin: str, tmp_path: Path) -> None:
    done = cfm("demo", "--fail", standin, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Acme has failed" in done.stdout
    assert "no stand-in knows the participant any more" in done.stdout


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
