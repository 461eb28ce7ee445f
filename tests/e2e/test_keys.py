"""Keys on a whole stack: events of the dataspace services reach an agent that has neither NATS nor database."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from cfm_core import deployment
from cfm_core.agent import ActivityEnvironment, Complete
from cfm_core.assembly import ServiceAssembler
from cfm_core.clients.assembly import IDENTITY_HUB
from cfm_core.contracts import subjects
from cfm_core.settings import Settings
from functions.agents.identityhub.identityhub import IdentityhubActivity
from functions.agents.jwtlet.jwtlet import JwtletActivity
from local.stack import Stack
from local.standins import agent_environment
from local.standins.events import CONTENT_TYPE, SUBJECTS, envelope
from tests.integration.eventing.harness import until
from tests.integration.eventing.stream import ask, publish

DID = "did:web:acme.example"


def listeners(nats_url: str) -> int:
    async def count(context: JetStreamContext) -> int:
        try:
            return (await context.stream_info(subjects.EDC_STREAM)).state.consumer_count
        except NotFoundError:
            return 0

    return ask(nats_url, count)


def test_the_key_that_signs_follows_the_events_of_the_dataspace_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stack(tmp_path / "stack", auth=False) as stack, ExitStack() as owned:
        services = agent_environment(stack.standins_url, stack.standins_token, tmp_path / "token")
        for name, value in services.items():
            monkeypatch.setenv(name, value)
        settings = Settings()
        assembler = ServiceAssembler(deployment.assemblies(settings), settings)
        owned.callback(assembler.stop)
        env = ActivityEnvironment(values={"cfm.participant.id": DID})
        agents: tuple[type[Any], ...] = (JwtletActivity, IdentityhubActivity)
        for cls in agents:
            needed = cls.__activity__.requires
            registry = assembler.ensure(needed)
            assert env.run(cls(*(registry.resolve(key) for key in needed))) == Complete()
        hub = assembler.ensure([IDENTITY_HUB]).resolve(IDENTITY_HUB)
        context = env.values["participantContextId"]

        def happen(about: str, key_id: str) -> None:
            data = {"participantContextId": context} | ({"keyId": key_id} if key_id else {})
            body = json.dumps(envelope(about, data)).encode()
            publish(stack.nats_url, SUBJECTS + about, body, {"Content-Type": CONTENT_TYPE})

        def signing() -> Any:
            answer = httpx2.get(
                f"{stack.standins_url}/_control/state",
                headers={"Authorization": f"Bearer {stack.standins_token}"},
                trust_env=False,
            )
            return answer.raise_for_status().json()["siglet"]["keys"].get(context, {}).get("kid")

        # What happens before anybody listens is told to nobody.
        until(lambda: listeners(stack.nats_url) == 2)
        (pair,) = hub.key_pairs(context)
        happen("keypair.activated", pair.key_id)
        until(lambda: signing() == pair.key_id)
        hub.rotate_key_pair(context, pair.id)
        happen("keypair.rotated", pair.key_id)
        until(lambda: signing() == f"{pair.key_id}-v2")
        hub.delete_participant(context)
        happen("participantcontext.deleted", "")
        until(lambda: signing() is None)
