from __future__ import annotations

import logging
from typing import Any

import pytest

from cfm_core.agent import Complete, Fatal
from cfm_core.clients.assembly import ISSUER_SERVICE
from cfm_core.clients.issuer_service import Holder, IssuerService
from functions.agents.registration.registration import RegistrationActivity
from tests.integration.agents.conftest import DID, World


def issuer(world: World) -> IssuerService:
    return world.assembler.ensure([ISSUER_SERVICE]).resolve(ISSUER_SERVICE)


def holders(world: World) -> list[tuple[str, str, str, Any]]:
    return [
        (one["holderId"], one["did"], one["holderName"], one["properties"])
        for one in world.state()["issuerservice"]["holders"]
    ]


def test_the_holder_has_the_issuer_vpas_properties(world: World) -> None:
    env = world.deployed(RegistrationActivity)
    assert holders(world) == [(env.values["participantContextId"], DID, DID, {"membership": {"a": 1}})]


def test_the_holder_has_the_name_that_was_given(world: World) -> None:
    env = world.environment(RegistrationActivity, **{"cfm.participant.holdername": "Acme GmbH"})
    assert env.run(world.agent(RegistrationActivity)) == Complete()
    assert holders(world)[0][2] == "Acme GmbH"


def test_a_holder_that_differs_is_brought_up_to_date(world: World) -> None:
    env = world.deployed(RegistrationActivity)
    env.values["cfm.participant.holdername"] = "Acme GmbH"
    env.values["cfm.vpa.data"] = []
    assert env.run(world.agent(RegistrationActivity)) == Complete()
    assert holders(world) == [(env.values["participantContextId"], DID, "Acme GmbH", {})]


def test_a_holder_with_the_did_and_another_id_is_reused(world: World) -> None:
    env = world.environment(RegistrationActivity)
    context = env.values["participantContextId"]
    issuer(world).register_holder(context, Holder("somebody", DID, "Somebody"))
    assert env.run(world.agent(RegistrationActivity)) == Complete()
    assert [one[:3] for one in holders(world)] == [("somebody", DID, DID)]


def test_a_holder_with_the_id_and_another_did_is_a_conflict(world: World) -> None:
    env = world.environment(RegistrationActivity)
    context = env.values["participantContextId"]
    issuer(world).register_holder(context, Holder(context, "did:web:other", "Other"))
    result = env.run(world.agent(RegistrationActivity))
    assert result == Fatal(f"conflict: the issuer has a holder {context} with the DID did:web:other, not {DID}")


def test_a_holder_whose_id_cannot_stand_in_a_path_stays_with_a_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    env = world.environment(RegistrationActivity)
    issuer(world).register_holder(env.values["participantContextId"], Holder(DID, DID, "Acme"))
    assert env.dispose(world.agent(RegistrationActivity)) == Complete()
    assert len(holders(world)) == 1
    assert f"holder {DID} stays" in caplog.text


def test_the_issuer_is_not_sent_inside_for_a_participants_document(world: World) -> None:
    env = world.environment(RegistrationActivity)
    env.values["cfm.participant.id"] = "did:web:169.254.169.254:latest"
    before = world.state()
    assert isinstance(env.run(world.agent(RegistrationActivity)), Fatal)
    assert world.state() == before
