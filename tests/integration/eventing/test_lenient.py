"""What gets through to the Provision Manager where NATS lets an agent publish more than it should: its functions refuse it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from cfm_core import deployment
from cfm_core.assembly import ServiceAssembler
from cfm_core.contracts import subjects
from cfm_core.contracts.reply import EventDict
from cfm_core.eventing.cloudevents import BATCH, event, to_batch
from cfm_core.eventing.permissions import Identity
from cfm_core.eventing.targets import Target
from cfm_core.provisioning.assembly import DEAD_LETTERS, ENGINE
from cfm_core.provisioning.dead_letters.model import DeadLetter, LetterAction
from cfm_core.query import Page
from cfm_core.settings import Settings
from local.servers.nats import EmbeddedNats
from tests.integration.eventing.conftest import StartTrigger
from tests.integration.eventing.harness import Behaviour, Events, Said, serving, until
from tests.integration.eventing.stream import publish
from tests.integration.eventing.test_delivery import an_event
from tests.integration.eventing.test_identities import DNS, IDENTITIES, PASSWORD
from tests.integration.provisioning.api import EVENTS, client_of


@dataclass
class Lenient:
    """A trigger of the Provision Manager with its true functions, at a NATS that lets an agent publish whatever it likes."""

    url: str
    identity: Identity

    def publish(self, subject: str, *events: EventDict) -> None:
        body = json.dumps(events).encode()
        publish(self.url, subject, body, {"Content-Type": BATCH}, inbox=self.identity.inbox_prefix)

    def letters(self) -> list[DeadLetter]:
        (store,) = deployment.services([DEAD_LETTERS])
        return [store.get(str(one["id"])) for one in json.loads(store.select("true", Page()).json)]

    def defaults(self) -> dict[str, int]:
        """How often each type is tried, as far as it has been announced."""
        (engine,) = deployment.services([ENGINE])
        return {type_: one.max_attempts for type_, one in engine._runs.announced.items()}


@pytest.fixture
def lenient(start_trigger: StartTrigger, own_nats: EmbeddedNats) -> Iterator[Lenient]:
    agent = IDENTITIES["agent-acme=dns"]
    own_nats.admit([agent.user(PASSWORD, replace(agent, announces=("event.>",)).publishes())])
    settings = Settings(auth="off", store="memory")
    services = ServiceAssembler(deployment.assemblies(settings), settings)
    deployment.use(services)
    names = {"types": "register_activity_types", "letters": "keep_dead_letters"}
    with serving({path: true_function(name) for path, name in names.items()}) as served:
        targets = [
            Target(name=path, url=served.url(path), subject=EVENTS[name].subject) for path, name in names.items()
        ]
        start_trigger(targets).wait_ready()
        yield Lenient(own_nats.url_for(agent.name, PASSWORD), agent)
    deployment.use(None)
    services.stop()


def true_function(name: str) -> Behaviour:
    """The declared function, as functions-framework serves it."""

    def called(events: Events) -> Said:
        response = client_of(EVENTS[name]).post("/", data=to_batch(events), content_type=BATCH)
        return Said(response.status_code, response.get_data())

    return called


def announced(activity_type: str, attempts: int, subject: str) -> EventDict:
    data = DNS.model_copy(update={"activity_type": activity_type, "max_attempts": attempts}).to_json()
    return event(type="cfm.activity.type", source="cfm/trigger", subject=subject, data=data)


def test_an_announcement_counts_for_the_type_on_whose_subject_it_was_published(lenient: Lenient) -> None:
    victims, own = subjects.announcement("acme.victim"), subjects.announcement("acme.dns")
    lenient.publish(victims, announced("acme.victim", 5, victims))
    until(lambda: lenient.defaults() == {"acme.victim": 5})
    # What the event itself says of its subject is no matter.
    forged = announced("acme.victim", 1, victims)
    lenient.publish(own, forged, announced("acme.dns", 7, own))
    until(lambda: lenient.defaults().get("acme.dns") == 7)
    until(lambda: len(lenient.letters()) == 1)
    assert lenient.defaults() == {"acme.victim": 5, "acme.dns": 7}
    (letter,) = lenient.letters()
    assert (letter.subject, letter.target) == (subjects.ACTIVITY_TYPES, "types")
    assert letter.reason == f"422: nobody announces activity type acme.victim on {own}"
    assert letter.event is not None
    assert json.loads(letter.event) == forged | {"subject": own}


def test_a_letter_counts_for_the_subject_that_it_was_published_for(lenient: Lenient) -> None:
    own = subjects.dead_letter(subjects.activity("acme.dns"))
    manifest = an_event("forged", subjects.MANIFESTS)
    said = {"key": "k", "target": "start", "reason": "r", "deliveries": 1, "event": manifest}
    about = [subjects.MANIFESTS, subjects.activity("acme.dns")]
    filed = [
        event(type="cfm.dead-letter", source="s", subject=subjects.dead_letter(one), data=said | {"subject": one})
        for one in about
    ]
    lenient.publish(own, *filed)
    lenient.publish(subjects.dead_letter(subjects.MANIFESTS), filed[0])
    until(lambda: len(lenient.letters()) == 3)
    letters = {(one.subject, LetterAction.REPLAY in one.allowed_actions) for one in lenient.letters()}
    assert letters == {(own, False), (subjects.activity("acme.dns"), True), (subjects.MANIFESTS, True)}
