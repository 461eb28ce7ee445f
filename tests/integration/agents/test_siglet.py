from __future__ import annotations

import logging
from typing import Any

import pytest

from cfm_core.agent import ActivityEnvironment, Complete, Fatal, Retry
from functions.agents.edcv.edcv import EdcvActivity
from functions.agents.siglet.siglet import SigletActivity
from tests.integration.agents.conftest import PAYLOAD, TRANSFER_TYPES, World


def with_transfer_types(given: Any) -> list[dict[str, Any]]:
    """The participant's VPAs, where the data plane's has these transfer types."""
    others = [one for one in PAYLOAD["cfm.vpa.data"] if one["vpaType"] != "cfm.dataplane"]
    return [*others, {"id": "3", "vpaType": "cfm.dataplane", "properties": {"transferTypeMappings": given}}]


def test_siglet_and_control_plane_know_each_other_for_the_transfer_types_by_name(world: World) -> None:
    push = {"transferType": "HttpData-PUSH", "endpointType": "HTTP", "tokenSource": "client", "extra": {"a": 1}}
    given = {"zeta": push, "alpha": {"transfer_type": "HttpData-PULL", "endpoint_type": "HTTP"}}
    env = world.environment(SigletActivity, **{"cfm.vpa.data": with_transfer_types(given)})
    assert env.run(world.agent(SigletActivity)) == Complete()
    context = env.values["participantContextId"]
    held = world.state()
    stored = held["siglet"]["transferTypes"][context]
    assert stored["zeta"] == {**push, "txRenewalSupport": False}
    assert (stored["alpha"]["transferType"], stored["alpha"]["tokenSource"]) == ("HttpData-PULL", "provider")
    assert held["controlplane"]["dataplanes"] == [
        {
            "participantContextId": context,
            "dataplaneId": f"{context}-siglet",
            "endpoint": f"{world.standins.url}/siglet/api/v1/{context}/dataflows",
            "transferTypes": ["alpha", "zeta"],
            "labels": [],
            "authorization": None,
        }
    ]


def test_other_transfer_types_replace_those_that_were_there(world: World) -> None:
    env = world.deployed(SigletActivity)
    env.values["cfm.vpa.data"] = with_transfer_types({"other": TRANSFER_TYPES["HttpData-PULL"]})
    assert env.run(world.agent(SigletActivity)) == Complete()
    held = world.state()
    assert [list(one) for one in held["siglet"]["transferTypes"].values()] == [["other"]]
    assert [one["transferTypes"] for one in held["controlplane"]["dataplanes"]] == [["other"]]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [{"vpaType": "cfm.connector"}],
        [{"vpaType": "cfm.dataplane"}],
        with_transfer_types({}),
        with_transfer_types(None),
    ],
    ids=["no-data", "no-vpa", "another-vpa", "no-properties", "empty", "null"],
)
def test_without_transfer_types_there_is_nothing_to_do_and_no_service_is_asked(world: World, data: Any) -> None:
    for service in ("siglet", "controlplane", "jwtlet"):
        world.fault(service, status=500)
    agent = world.agent(SigletActivity)
    assert ActivityEnvironment(values={"cfm.vpa.data": data}).run(agent) == Complete()


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ([1], "transferTypeMappings is not an object"),
        ({"a": 1}, "transferTypeMappings.a is not an object"),
        ({"a": {"endpointType": "HTTP"}}, "transferTypeMappings.a.transferType is missing"),
        ({"a": {"transferType": "x", "endpointType": 7}}, "transferTypeMappings.a.endpointType is missing or no text"),
        (
            {"a": {"transferType": "x", "endpointType": "y", "tokenSource": "nobody"}},
            "transferTypeMappings.a.tokenSource is none of provider, client",
        ),
    ],
    ids=str,
)
def test_transfer_types_that_are_none_are_fatal_and_named(world: World, given: Any, where: str) -> None:
    env = ActivityEnvironment(values={"participantContextId": "pc", "cfm.vpa.data": with_transfer_types(given)})
    result = env.run(world.agent(SigletActivity))
    assert isinstance(result, Fatal)
    assert where in result.reason


def test_a_transfer_type_that_siglet_refuses_is_fatal_with_its_words(world: World) -> None:
    given = {"a": {"transferType": "x", "endpointType": "y", "endpoint": "no address"}}
    env = world.environment(SigletActivity, **{"cfm.vpa.data": with_transfer_types(given)})
    result = env.run(world.agent(SigletActivity))
    assert isinstance(result, Fatal)
    assert "answered 422: a: endpoint must be a URL" in result.reason


def test_without_a_participant_at_the_control_plane_it_is_fatal(world: World) -> None:
    env = world.environment(SigletActivity)
    env.dispose(world.agent(EdcvActivity))
    result = env.run(world.agent(SigletActivity))
    assert isinstance(result, Fatal)
    assert "answered 404" in result.reason


@pytest.mark.parametrize("cut", [("controlplane", "/dataplanes"), ("siglet", "/transfer-type-mappings")])
@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
def test_a_disposal_that_was_cut_short_is_finished_by_the_next(
    world: World, cut: tuple[str, str], after_effect: bool
) -> None:
    env = world.deployed(SigletActivity)
    service, path = cut
    world.fault(service, method="DELETE", path=path, times=1, drop=True, afterEffect=after_effect)
    assert isinstance(env.dispose(world.agent(SigletActivity)), Retry)
    assert env.dispose(world.agent(SigletActivity)) == Complete()
    held = world.state()
    assert (held["siglet"]["transferTypes"], held["controlplane"]["dataplanes"]) == ({}, [])


def test_no_data_flow_begins_any_more_once_transfer_types_are_forgotten(world: World) -> None:
    env = world.deployed(SigletActivity)
    world.fault("controlplane", method="DELETE", path="/dataplanes", status=503)
    assert isinstance(env.dispose(world.agent(SigletActivity)), Retry)
    assert world.state()["siglet"]["transferTypes"] != {}


def test_what_was_torn_down_is_warned_about(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    env = ActivityEnvironment(values={"cfm.vpa.state": {"participantContextId": "0" * 32}})
    assert env.dispose(world.agent(SigletActivity)) == Complete()
    assert "nothing to dispose of" in caplog.text


def test_a_process_that_is_not_told_where_the_control_plane_finds_siglet_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CFM_SIGLET_SIGNALING_URL")
    with pytest.raises(Exception, match="CFM_SIGLET_SIGNALING_URL is not set"):
        world.agent(SigletActivity)
