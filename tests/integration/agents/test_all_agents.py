"""What holds for each of the agents: it can be repeated, interrupted, refused, and undone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cfm_core.agent import ActivityEnvironment, Complete, Fatal, Retry
from functions.agents.edcv.edcv import EdcvActivity
from functions.agents.identityhub.identityhub import IdentityhubActivity
from functions.agents.jwtlet.jwtlet import JwtletActivity
from functions.agents.onboarding.onboarding import OnboardingActivity
from functions.agents.registration.registration import RegistrationActivity
from functions.agents.siglet.siglet import SigletActivity
from tests.integration.agents.conftest import DID, IN_ORDER, PAYLOAD, World

WRITES = [
    (JwtletActivity, "jwtlet", "POST", "/mappings"),
    (EdcvActivity, "controlplane", "POST", "/participants"),
    (EdcvActivity, "controlplane", "PATCH", "/config"),
    (IdentityhubActivity, "identityhub", "POST", "/participants"),
    (RegistrationActivity, "issuerservice", "POST", "/holders"),
    (SigletActivity, "siglet", "POST", "/transfer-type-mappings"),
    (SigletActivity, "controlplane", "PUT", "/dataplanes"),
    (OnboardingActivity, "identityhub", "POST", "/credentials/request"),
]
SERVICES = list(dict.fromkeys((agent, service) for agent, service, _, _ in WRITES))


def user_disposal(env: ActivityEnvironment) -> ActivityEnvironment:
    """What an orchestration begins with when a user disposes of the participant."""
    state = dict(env.outputs)
    return ActivityEnvironment(
        orchestration_id="dispose-1",
        values={"cfm.participant.id": DID, "cfm.vpa.state": state, "cfm.vpa.data": PAYLOAD["cfm.vpa.data"]},
    )


def compensation(env: ActivityEnvironment) -> ActivityEnvironment:
    """What an orchestration begins with that undoes a failed deploy."""
    bookkeeping = {"activity.x.attempt": 3, "error": "on fire"}
    return ActivityEnvironment(
        orchestration_id=f"{env.orchestration_id}.compensate", values={**env.values, **bookkeeping}
    )


def finish(world: World, env: ActivityEnvironment, agent: object) -> None:
    for _ in range(5):
        result = env.run(agent)
        if result == Complete():
            return
        world.now += 5
    raise AssertionError(result)


@pytest.mark.parametrize("cls", IN_ORDER)
def test_deploying_twice_is_deploying_once(world: World, cls: type[Any]) -> None:
    env = world.deployed(cls)
    before, outputs, values = world.state(), dict(env.outputs), dict(env.values)
    assert env.run(world.agent(cls)) == Complete()
    assert (world.state(), env.outputs, env.values) == (before, outputs, values)


@pytest.mark.parametrize(("cls", "service", "method", "path"), WRITES)
@pytest.mark.parametrize("how", [{"drop": True}, {"status": 502}], ids=["no-answer", "502"])
def test_an_answer_lost_after_the_effect_is_made_good_by_the_next_attempt(
    world: World, cls: type[Any], service: str, method: str, path: str, how: dict[str, Any]
) -> None:
    env = world.environment(cls)
    world.fault(service, method=method, path=path, afterEffect=True, times=1, **how)
    assert isinstance(env.run(world.agent(cls)), Retry)
    finish(world, env, world.agent(cls))
    env_2 = ActivityEnvironment(values=env.values)
    assert env_2.run(world.agent(cls)) == Complete()


@pytest.mark.parametrize(("cls", "service"), SERVICES)
def test_a_service_that_is_unwell_twice_costs_two_attempts(world: World, cls: type[Any], service: str) -> None:
    env = world.environment(cls)
    agent = world.agent(cls)
    world.fault(service, status=503, times=2, retryAfter=7)
    for _ in range(2):
        result = env.run(agent)
        assert isinstance(result, Retry)
        assert "answered 503: a fault that was asked for" in result.reason
        assert result.after is not None
        assert result.after.total_seconds() == 7
    finish(world, env, agent)


@pytest.mark.parametrize(("cls", "service"), SERVICES)
@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_service_that_refuses_is_fatal(world: World, cls: type[Any], service: str, status: int) -> None:
    env = world.environment(cls)
    world.fault(service, status=status)
    result = env.run(world.agent(cls))
    assert isinstance(result, Fatal)
    assert f"answered {status}: a fault that was asked for" in result.reason


@pytest.mark.parametrize(("cls", "service"), SERVICES)
def test_a_service_that_hangs_is_named_and_tried_again(world: World, cls: type[Any], service: str) -> None:
    env = world.environment(cls)
    world.give_up_after(timedelta(seconds=0.5))
    world.fault(service, hang=True, times=1)
    result = env.run(world.agent(cls))
    assert isinstance(result, Retry)
    assert f"/{service}/" in result.reason
    assert "no answer within 0.5 s" in result.reason
    finish(world, env, world.agent(cls))


@pytest.mark.parametrize("cls", IN_ORDER[1:])
def test_a_token_that_is_refused_is_replaced_once(world: World, cls: type[Any]) -> None:
    env = world.deployed(cls)
    world.control.post("/_control/keys").raise_for_status()
    assert env.run(world.agent(cls)) == Complete()


@pytest.mark.parametrize("cls", IN_ORDER[1:])
def test_a_token_that_stays_refused_is_fatal(world: World, cls: type[Any]) -> None:
    env = world.environment(cls)
    for service in ("controlplane", "identityhub", "issuerservice", "siglet"):
        world.fault(service, status=401)
    result = env.run(world.agent(cls))
    assert isinstance(result, Fatal)
    assert "answered 401" in result.reason


@pytest.mark.parametrize("cls", IN_ORDER)
@pytest.mark.parametrize("disposal", [user_disposal, compensation])
def test_disposing_undoes_the_deploy_and_can_be_repeated(world: World, cls: type[Any], disposal: Any) -> None:
    deployed = world.deployed(cls)
    env = disposal(deployed)
    agent = world.agent(cls)
    assert env.dispose(agent) == Complete()
    after = world.state()
    assert env.dispose(agent) == Complete()
    assert world.state() == after


@pytest.mark.parametrize("disposal", [user_disposal, compensation])
def test_disposing_by_all_agents_leaves_nothing_behind_and_can_be_repeated(world: World, disposal: Any) -> None:
    deployed = world.deployed(OnboardingActivity)
    assert set(world.traces(deployed)) == {"jwtlet", "controlplane", "identityhub", "issuerservice", "siglet"}
    env = disposal(deployed)
    for _ in range(2):
        for cls in reversed(IN_ORDER):
            assert env.dispose(world.agent(cls)) == Complete()
        assert world.traces(deployed) == {}


def test_disposing_with_tokens_of_another_process_after_jwtlet_is_gone_completes(world: World) -> None:
    deployed = world.deployed(OnboardingActivity)
    env = user_disposal(deployed)
    for cls in reversed(IN_ORDER):
        env.dispose(world.agent(cls))
    world.assembler.stop()
    for cls in IN_ORDER:
        assert env.dispose(world.agent(cls)) == Complete()


@pytest.mark.parametrize("cls", IN_ORDER)
def test_disposing_of_what_was_never_deployed_does_nothing(world: World, cls: type[Any]) -> None:
    before = world.state()
    nothing = {"cfm.participant.id": DID, "cfm.vpa.state": {}}
    assert ActivityEnvironment(values=nothing).dispose(world.agent(cls)) == Complete()
    unknown = {"cfm.participant.id": DID, "cfm.vpa.state": {"participantContextId": "0" * 32}}
    assert ActivityEnvironment(values=unknown).dispose(world.agent(cls)) == Complete()
    assert world.state() == before


@pytest.mark.parametrize("cls", IN_ORDER[1:])
def test_disposing_where_the_agent_never_had_its_turn_does_nothing(world: World, cls: type[Any]) -> None:
    env = world.environment(cls)
    before = world.state()
    assert compensation(env).dispose(world.agent(cls)) == Complete()
    assert world.state() == before


@pytest.mark.parametrize(("cls", "service"), SERVICES)
def test_disposing_is_tried_again_while_the_service_is_unwell(world: World, cls: type[Any], service: str) -> None:
    env = user_disposal(world.deployed(cls))
    for name in ("controlplane", "identityhub", "issuerservice", "jwtlet", "siglet"):
        world.fault(name, status=503)
    assert isinstance(env.dispose(world.agent(cls)), Retry)
    world.no_faults()
    assert env.dispose(world.agent(cls)) == Complete()


@pytest.mark.parametrize("cls", IN_ORDER)
def test_a_missing_participant_is_fatal_and_named(world: World, cls: type[Any]) -> None:
    result = ActivityEnvironment(values={"cfm.vpa.data": PAYLOAD["cfm.vpa.data"]}).run(world.agent(cls))
    assert isinstance(result, Fatal)
    assert "is missing" in result.reason
