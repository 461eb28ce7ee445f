"""The agent against a stand-in for its service, over HTTP: no broker, no database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cfm_core.agent import ActivityEnvironment, ActivityResult, Complete, Fatal, Retry, Schedule
from cfm_core.clients.http import HttpClient

from acme_dns import AcmeDns
from acme_dns_service import Service, running

DID = "did:web:participants.example:acme"
NAME = "acme.acme.example"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with running() as service:
        monkeypatch.setenv("ACME_DNS_URL", service.url)
        yield service


@pytest.fixture
def agent(service: Service) -> Iterator[AcmeDns]:
    http = HttpClient()
    yield AcmeDns(http)
    http.close()


def environment(did: str = DID) -> ActivityEnvironment:
    return ActivityEnvironment(values={"cfm.participant.id": did})


def deploy(env: ActivityEnvironment, agent: AcmeDns) -> ActivityResult:
    """Run it until it does not want to look again."""
    while isinstance(result := env.run(agent), Schedule):
        pass
    return result


def test_deploy_gives_the_participant_a_name(service: Service, agent: AcmeDns) -> None:
    env = environment()
    assert deploy(env, agent) == Complete()
    assert env.outputs == {"acme.dns.name": NAME}
    assert service.records[NAME].owner == DID


def test_deploy_looks_again_until_the_name_is_published(agent: AcmeDns) -> None:
    env = environment()
    assert isinstance(env.run(agent), Schedule)
    assert env.run(agent) == Complete()
    assert env.values == {"cfm.participant.id": DID}


def test_deploying_twice_is_deploying_once(service: Service, agent: AcmeDns) -> None:
    env = environment()
    assert (deploy(env, agent), deploy(env, agent)) == (Complete(), Complete())
    assert list(service.records) == [NAME]


def test_a_name_of_somebody_else_is_a_conflict(agent: AcmeDns) -> None:
    deploy(environment(), agent)
    result = environment("did:web:elsewhere.example:acme").run(agent)
    assert isinstance(result, Fatal)
    assert result.reason.startswith("conflict: the name acme.acme.example")


def test_a_service_that_is_unwell_is_asked_again(service: Service, agent: AcmeDns) -> None:
    env = environment()
    service.fails = 503
    assert isinstance(env.run(agent), Retry)
    service.fails = 0
    assert deploy(env, agent) == Complete()


def test_dispose_takes_the_name_away_and_can_be_repeated(service: Service, agent: AcmeDns) -> None:
    deploy(environment(), agent)
    # A user's disposal has the outputs of the deploy in one nested value.
    env = ActivityEnvironment(values={"cfm.participant.id": DID, "cfm.vpa.state": {"acme.dns.name": NAME}})
    assert (env.dispose(agent), env.dispose(agent)) == (Complete(), Complete())
    assert service.records == {}


def test_dispose_without_a_deploy_has_nothing_to_do(agent: AcmeDns) -> None:
    assert environment().dispose(agent) == Complete()
