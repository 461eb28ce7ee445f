"""The key lifecycle agent as it is deployed: events of the IdentityHub in, Siglet and the control plane in step with it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import flask
import functions_framework
import pytest

from cfm_core import deployment
from cfm_core.agent import Complete
from cfm_core.clients.assembly import CONTROL_PLANE, IDENTITY_HUB, RESOURCE_MAPPINGS, SIGLET
from cfm_core.clients.identity_hub import IdentityHub, KeyPair, NewKeyPair
from cfm_core.clients.jwtlet import ResourceMapping
from cfm_core.clients.siglet import Siglet
from cfm_core.declaration import EventFunction
from cfm_core.errors import RecoverableError
from cfm_core.keys.service import SHOWS_WITHIN, SigningKeys
from functions.agents.identityhub.identityhub import IdentityhubActivity
from functions.agents.jwtlet.jwtlet import JwtletActivity
from functions.agents.keys import keys as agent
from functions.agents.siglet.siglet import SigletActivity
from local.standins import AGENTS
from local.standins.events import envelope
from tests.integration.agents.conftest import DID, IN_ORDER, World

TOKEN = "event-token"
FUNCTIONS = {
    "keypair": agent.follow_key_pair.declaration,
    "participantcontext": agent.forget_signing_key.declaration,
}
LONG_AGO = timedelta(minutes=2)

_numbers = itertools.count(1)


@dataclass
class Keys:
    """A participant at the IdentityHub, and the agent's functions, called as the trigger does."""

    world: World
    context: str
    taken: int = field(default=0)

    @property
    def hub(self) -> IdentityHub:
        return self.world.assembler.ensure([IDENTITY_HUB]).resolve(IDENTITY_HUB)

    @property
    def siglet(self) -> Siglet:
        return self.world.assembler.ensure([SIGLET]).resolve(SIGLET)

    def pair(self, name: str = "key1") -> KeyPair:
        (found,) = [one for one in self.hub.key_pairs(self.context) if one.key_id == f"{DID}#{name}"]
        return found

    def new(self, name: str, **options: Any) -> NewKeyPair:
        return NewKeyPair(f"{DID}#{name}", f"alias-{name}", resource_id=name, **options)

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What the IdentityHub has published since the last look."""
        found = self.world.published[self.taken :]
        self.taken += len(found)
        return found

    def deliver(self, *events: tuple[str, dict[str, Any]], age: timedelta = timedelta(0)) -> dict[str, Any]:
        """Bring events to their functions, each function its own in one batch; gives the failures by what they are about."""
        failures: dict[str, Any] = {}
        for package, function in FUNCTIONS.items():
            own = [(about, data) for about, data in events if about.startswith(f"{package}.")]
            if not own or (package == "participantcontext" and not any(about.endswith(".deleted") for about, _ in own)):
                continue
            batch = [
                envelope(about, data)
                | {"subject": f"events.{about}", "time": (datetime.now(UTC) - age).isoformat(), "id": about}
                for about, data in own
            ]
            answer = post(function, batch)
            assert answer.status_code == 200, answer.text
            failures |= {one["id"]: one for one in answer.json.get("failures", ())}
        return failures

    def follow(self) -> dict[str, Any]:
        """Deliver what was published since the last look."""
        return self.deliver(*self.events())

    @property
    def signing(self) -> tuple[str, str] | None:
        """The key that both Siglet and the control plane know, by alias and name."""
        state = self.world.state()
        mapping = state["siglet"]["keys"].get(self.context)
        entries = state["controlplane"]["configs"].get(self.context, {"entries": {}})["entries"]
        told = {name.removeprefix("edc.iam.sts."): value for name, value in entries.items() if "sts" in name}
        if mapping is None:
            assert told == {}
            return None
        assert told == {
            "type": "signature",
            "signature.keyname": mapping["keyName"],
            "signature.kid": mapping["kid"],
        }
        return mapping["keyName"], mapping["kid"].partition("#")[2]


def post(function: Any, batch: list[dict[str, Any]]) -> Any:
    assert isinstance(function, EventFunction)
    app: flask.Flask = functions_framework.create_app(function.name, str(function.source))  # type: ignore[no-untyped-call]
    headers = {"Content-Type": "application/cloudevents-batch+json", "Authorization": f"Bearer {TOKEN}"}
    return app.test_client().post("/", data=json.dumps(batch), headers=headers)


def wake() -> Any:
    """Wake the periodic round as the trigger does."""
    tick = {"specversion": "1.0", "id": f"tick-{next(_numbers)}", "source": "t", "type": "cfm.tick", "data": None}
    return post(agent.look_after_signing_keys.declaration, [tick]).json.get("failures", [])


@pytest.fixture
def keys(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    """A participant whose first key is active, which nobody has followed yet; no database, no NATS, no keys of the platform."""
    for name in ("CFM_DATABASE_URL", "CFM_NATS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CFM_EVENT_TOKEN", TOKEN)
    deployment.stop()
    context = str(world.deployed(IdentityhubActivity).values["participantContextId"])
    yield Keys(world, context)
    deployment.stop()


def first(keys: Keys) -> tuple[str, str]:
    return keys.pair().alias, "key1"


def test_an_active_key_signs(keys: Keys) -> None:
    assert keys.follow() == {}
    assert keys.signing == first(keys)


def test_a_repeated_event_changes_nothing(keys: Keys) -> None:
    events = keys.events()
    keys.deliver(*events)
    before = keys.world.state()
    for service in ("siglet", "controlplane"):
        for method in ("PUT", "POST", "PATCH", "DELETE"):
            keys.world.fault(service, method=method, status=500)
    assert keys.deliver(*events) == {}
    assert keys.world.state() == before


def test_a_key_that_was_only_added_does_not_sign(keys: Keys) -> None:
    added = keys.events()[1]
    assert added[0] == "keypair.added"
    keys.world.fault("identityhub", status=500)
    assert keys.deliver(added) == {}
    assert keys.signing is None


def test_after_a_rotation_the_new_version_signs(keys: Keys) -> None:
    keys.follow()
    keys.hub.rotate_key_pair(keys.context, keys.pair().id)
    events = keys.events()
    assert [about for about, _ in events] == ["keypair.rotated", "keypair.added", "keypair.activated"]
    assert keys.deliver(*events) == {}
    assert keys.signing == (keys.pair("key1-v2").alias, "key1-v2")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_the_order_of_events_does_not_matter(keys: Keys, order: tuple[int, ...]) -> None:
    keys.follow()
    keys.hub.revoke_key_pair(keys.context, keys.pair().id, keys.new("key2"))
    events = keys.events()
    for place in order:
        assert keys.deliver(events[place]) == {}
    assert keys.signing == (keys.pair("key2").alias, "key2")


def test_a_revocation_does_not_take_the_successor_away(keys: Keys) -> None:
    keys.hub.add_key_pair(keys.context, keys.new("key2"))
    keys.follow()
    keys.hub.revoke_key_pair(keys.context, keys.pair().id)
    events = keys.events()
    assert [about for about, _ in events] == ["keypair.revoked"]
    for _ in range(2):
        assert keys.deliver(*events) == {}
        assert keys.signing == (keys.pair("key2").alias, "key2")


def test_where_the_newest_key_is_revoked_an_older_one_that_is_active_signs(keys: Keys) -> None:
    keys.hub.add_key_pair(keys.context, keys.new("key2"))
    keys.follow()
    keys.hub.revoke_key_pair(keys.context, "key2")
    assert keys.follow() == {}
    assert keys.signing == first(keys)


def test_when_the_last_key_is_revoked_nothing_signs_and_what_others_configured_stays(keys: Keys) -> None:
    before = keys.world.state()["controlplane"]["configs"][keys.context]
    assert before["entries"]["edc.participant.id"] == DID
    keys.follow()
    assert keys.signing == first(keys)
    keys.hub.revoke_key_pair(keys.context, keys.pair().id)
    assert keys.follow() == {}
    assert keys.signing is None
    assert keys.world.state()["controlplane"]["configs"][keys.context] == before


def test_a_key_that_may_not_sign_tokens_does_not(keys: Keys) -> None:
    keys.hub.add_key_pair(keys.context, keys.new("key2", usage=("sign_credentials",)))
    assert keys.follow() == {}
    assert keys.signing == first(keys)


def test_stale_events_do_not_bring_an_old_key_back(keys: Keys) -> None:
    activated = keys.events()
    keys.deliver(*activated)
    keys.hub.rotate_key_pair(keys.context, keys.pair().id)
    keys.follow()
    for age in (timedelta(0), LONG_AGO):
        assert keys.deliver(*activated, age=age) == {}
        assert keys.signing == (keys.pair("key1-v2").alias, "key1-v2")


def test_an_event_that_comes_before_its_effect_is_looked_at_again_soon(keys: Keys) -> None:
    keys.hub.add_key_pair(keys.context, keys.new("key2", active=False))
    keys.follow()
    resource = {"id": "key2"}
    activated = (
        "keypair.activated",
        {"participantContextId": keys.context, "keyId": f"{DID}#key2", "keyPairResource": resource},
    )
    failure = keys.deliver(activated)["keypair.activated"]
    assert (failure["status"], failure["retryAfter"]) == (503, 0.5)
    assert "does not show yet what happened to key2" in failure["reason"]
    assert keys.signing == first(keys)
    keys.hub.activate_key_pair(keys.context, "key2")
    assert keys.deliver(activated) == {}
    assert keys.signing == (keys.pair("key2").alias, "key2")


@pytest.mark.parametrize("what", ["revoked", "rotated"])
def test_an_end_that_does_not_show_yet_is_looked_at_again_soon(keys: Keys, what: str) -> None:
    keys.follow()
    event = (f"keypair.{what}", {"participantContextId": keys.context, "keyId": f"{DID}#key1"})
    assert keys.deliver(event)[f"keypair.{what}"]["status"] == 503
    assert keys.deliver(event, age=SHOWS_WITHIN * 2) == {}, "what has not shown for so long was never committed"
    assert keys.signing == first(keys)


def test_the_end_of_a_participant_is_the_end_of_its_key(keys: Keys) -> None:
    keys.follow()
    keys.hub.delete_participant(keys.context)
    *_, deleted = keys.events()
    assert deleted[0] == "participantcontext.deleted"
    for _ in range(2):
        assert keys.deliver(deleted) == {}
        assert keys.signing is None


def test_a_deletion_that_does_not_show_yet_is_looked_at_again_soon(keys: Keys) -> None:
    keys.follow()
    deleted = ("participantcontext.deleted", {"participantContextId": keys.context})
    assert keys.deliver(deleted)["participantcontext.deleted"]["status"] == 503
    assert keys.signing == first(keys)


def test_a_late_deletion_does_not_harm_a_participant_that_is_there_again(keys: Keys) -> None:
    keys.hub.delete_participant(keys.context)
    *_, deleted = keys.events()
    env = keys.world.environment(IdentityhubActivity)
    env.run(keys.world.agent(IdentityhubActivity))
    keys.follow()
    assert keys.deliver(deleted, age=LONG_AGO) == {}
    assert keys.signing == first(keys)


def test_the_end_of_what_never_signed_leaves_no_configuration_behind(keys: Keys) -> None:
    env = keys.world.environment(JwtletActivity)
    env.orchestration_id = "another"
    env.run(keys.world.agent(JwtletActivity))
    context = env.values["participantContextId"]
    assert keys.deliver(("participantcontext.deleted", {"participantContextId": context})) == {}
    assert context not in keys.world.state()["controlplane"]["configs"]


@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("service", "method", "path"),
    [
        ("siglet", "POST", "/key-mappings"),
        ("controlplane", "PATCH", "/config"),
    ],
)
def test_what_was_cut_short_is_finished_by_the_next_delivery(
    keys: Keys, service: str, method: str, path: str, after_effect: bool
) -> None:
    events = keys.events()
    keys.world.fault(service, method=method, path=path, times=1, drop=True, afterEffect=after_effect)
    assert keys.deliver(*events)["keypair.activated"]["status"] == 503
    assert keys.deliver(*events) == {}
    assert keys.signing == first(keys)


@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("service", "method", "path"),
    [("siglet", "DELETE", "/key-mappings"), ("controlplane", "PATCH", "/config")],
)
def test_an_end_that_was_cut_short_is_finished_by_the_next_delivery(
    keys: Keys, service: str, method: str, path: str, after_effect: bool
) -> None:
    keys.follow()
    keys.hub.revoke_key_pair(keys.context, keys.pair().id)
    events = keys.events()
    keys.world.fault(service, method=method, path=path, times=1, drop=True, afterEffect=after_effect)
    assert keys.deliver(*events)["keypair.revoked"]["status"] == 503
    assert keys.deliver(*events) == {}
    assert keys.signing is None


def test_a_service_that_is_unwell_says_when_to_come_again(keys: Keys) -> None:
    keys.world.fault("siglet", status=503, retryAfter=9)
    failure = keys.follow()["keypair.activated"]
    assert (failure["status"], failure["retryAfter"]) == (503, 9)


@pytest.mark.parametrize("service", ["identityhub", "siglet", "controlplane"])
def test_a_service_that_refuses_makes_a_dead_letter_with_its_words(keys: Keys, service: str) -> None:
    keys.world.fault(service, status=422)
    failure = keys.follow()["keypair.activated"]
    assert failure["status"] == 422
    assert "answered 422: a fault that was asked for" in failure["reason"]


def test_a_scope_that_is_missing_makes_a_dead_letter_that_names_it(keys: Keys) -> None:
    mappings = keys.world.assembler.ensure([RESOURCE_MAPPINGS]).resolve(RESOURCE_MAPPINGS)
    mappings.put(ResourceMapping(AGENTS, keys.context, ("identity-api:admin",), ("edcv",)))
    failure = keys.follow()["keypair.activated"]
    assert failure["status"] == 422
    assert "siglet-mgmt-api:read" in failure["reason"]


def test_the_issuers_own_keys_are_left_alone_and_nobody_is_asked(keys: Keys) -> None:
    for service in ("identityhub", "siglet", "controlplane", "jwtlet"):
        keys.world.fault(service, status=500)
    data = {"participantContextId": "issuer", "keyId": "did:web:issuer#key-1"}
    for what in ("activated", "rotated", "revoked"):
        assert keys.deliver((f"keypair.{what}", data)) == {}


def test_without_a_mapping_an_event_is_tried_for_a_while_and_then_let_go(keys: Keys) -> None:
    data = {"participantContextId": "somebody-else", "keyId": "did:web:x#key1"}
    failure = keys.deliver(("keypair.activated", data))["keypair.activated"]
    assert failure["status"] == 503
    assert "there is no mapping for somebody-else" in failure["reason"]
    assert keys.deliver(("keypair.activated", data), age=LONG_AGO) == {}


def test_a_participant_that_was_torn_down_before_its_events_came_is_let_go(keys: Keys) -> None:
    events = keys.events()
    env = keys.world.environment(IdentityhubActivity)
    for cls in (IdentityhubActivity, JwtletActivity):
        env.dispose(keys.world.agent(cls))
    assert keys.deliver(*events, *keys.events(), age=LONG_AGO) == {}
    assert keys.signing is None


@pytest.mark.parametrize("missing", ["participantContextId", "keyId"])
def test_an_event_without_what_it_is_about_makes_a_dead_letter(keys: Keys, missing: str) -> None:
    data = {"participantContextId": keys.context, "keyId": f"{DID}#key1"}
    del data[missing]
    failure = keys.deliver(("keypair.activated", data))["keypair.activated"]
    assert failure["status"] == 422
    assert missing in failure["reason"]


def test_one_event_that_fails_does_not_hold_up_the_others_of_its_batch(keys: Keys) -> None:
    data = {"participantContextId": "somebody-else", "keyId": "did:web:x#key1"}
    *_, activated = keys.events()
    assert list(keys.deliver(("keypair.revoked", data), activated)) == ["keypair.revoked"]
    assert keys.signing == first(keys)


class Interrupted(IdentityHub):
    """An IdentityHub client after whose first look at keys something happens."""

    def __init__(self, keys: Keys, then: Any) -> None:
        self._keys = keys
        self._then = then

    def key_pairs(self, context: str) -> list[KeyPair]:
        found = self._keys.hub.key_pairs(context)
        then, self._then = self._then, lambda: None
        then()
        return found


def follower(keys: Keys, hub: IdentityHub) -> SigningKeys:
    control_plane = keys.world.assembler.ensure([CONTROL_PLANE]).resolve(CONTROL_PLANE)
    return SigningKeys(hub, keys.siglet, control_plane, issuer_id="issuer", contexts=list)


def test_of_two_processes_at_once_the_slower_does_not_bring_an_old_key_back(keys: Keys) -> None:
    def rotated_and_followed_elsewhere() -> None:
        keys.hub.rotate_key_pair(keys.context, keys.pair().id)
        follower(keys, keys.hub).follow(keys.context)
        assert keys.signing == (keys.pair("key1-v2").alias, "key1-v2")

    follower(keys, Interrupted(keys, rotated_and_followed_elsewhere)).follow(keys.context)
    assert keys.signing == (keys.pair("key1-v2").alias, "key1-v2")


def test_of_two_processes_at_once_the_slower_does_not_sign_with_a_revoked_key(keys: Keys) -> None:
    def revoked_and_followed_elsewhere() -> None:
        keys.hub.revoke_key_pair(keys.context, keys.pair().id)
        follower(keys, keys.hub).follow(keys.context)

    follower(keys, Interrupted(keys, revoked_and_followed_elsewhere)).follow(keys.context)
    assert keys.signing is None


class Restless(IdentityHub):
    """An IdentityHub client that finds another key at each look."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def key_pairs(self, context: str) -> list[KeyPair]:
        found = self._keys.hub.key_pairs(context)
        self._keys.hub.rotate_key_pair(context, next(one for one in found if one.signs_tokens).id)
        return found


def test_keys_that_never_rest_are_looked_at_later(keys: Keys) -> None:
    with pytest.raises(RecoverableError, match="change while they are followed"):
        follower(keys, Restless(keys)).follow(keys.context)


# The round that finds what lost events would have told


def another(keys: Keys, number: int) -> str:
    """Another participant at the IdentityHub, with an active key."""
    env = keys.world.environment(JwtletActivity, **{"cfm.participant.id": f"did:web:other{number}"})
    env.orchestration_id = f"other-{number}"
    for cls in IN_ORDER[: IN_ORDER.index(IdentityhubActivity) + 1]:
        env.run(keys.world.agent(cls))
    return str(env.values["participantContextId"])


def mapped(keys: Keys) -> set[str]:
    return set(keys.world.state()["siglet"]["keys"])


def test_a_round_finds_what_lost_events_would_have_told(keys: Keys) -> None:
    assert wake() == []
    assert keys.signing == first(keys)
    keys.hub.rotate_key_pair(keys.context, keys.pair().id)
    assert wake() == []
    assert keys.signing == (keys.pair("key1-v2").alias, "key1-v2")
    keys.hub.delete_participant(keys.context)
    assert wake() == []
    assert keys.signing is None


def test_a_round_looks_at_every_participant_that_the_agents_are_mapped_to(keys: Keys) -> None:
    others = {another(keys, number) for number in range(3)}
    assert wake() == []
    assert mapped(keys) == {keys.context, *others}


def test_a_round_that_has_no_time_left_goes_on_where_it_ended(keys: Keys) -> None:
    contexts = {keys.context, *(another(keys, number) for number in range(3))}
    control_plane = keys.world.assembler.ensure([CONTROL_PLANE]).resolve(CONTROL_PLANE)

    class OneAtATime(SigningKeys):
        """Finds its time over after each participant."""

        def follow(self, context: str, change: Any = None) -> None:
            super().follow(context, change)
            raise RecoverableError("enough")

    rounds = OneAtATime(keys.hub, keys.siglet, control_plane, issuer_id="issuer", contexts=lambda: contexts)
    for number in range(1, 5):
        with pytest.raises(RecoverableError):
            rounds.look_around(timedelta(minutes=1))
        assert len(mapped(keys)) == number
    assert mapped(keys) == contexts


def test_a_round_without_time_looks_at_nobody(keys: Keys) -> None:
    rounds = SigningKeys(
        keys.hub,
        keys.siglet,
        keys.world.assembler.ensure([CONTROL_PLANE]).resolve(CONTROL_PLANE),
        issuer_id="issuer",
        contexts=lambda: [keys.context],
    )
    rounds.look_around(timedelta(0))
    assert mapped(keys) == set()


def test_a_round_passes_over_a_participant_that_is_refused_and_says_so(keys: Keys) -> None:
    others = {another(keys, number) for number in range(2)}
    keys.world.fault("siglet", path=f"/key-mappings/{keys.context}", status=422)
    (failure,) = wake()
    assert failure["status"] == 503
    assert f"the keys of 1 participants were not looked at: {keys.context}" in failure["reason"]
    assert mapped(keys) == others


def test_a_service_that_does_not_answer_ends_the_round(keys: Keys) -> None:
    for number in range(2):
        another(keys, number)
    keys.world.fault("siglet", status=503, times=1)
    (failure,) = wake()
    assert "answered 503" in failure["reason"]
    assert len(mapped(keys)) == 0
    assert wake() == []
    assert len(mapped(keys)) == 3


def test_disposing_of_the_data_plane_takes_the_key_with_it(keys: Keys) -> None:
    env = keys.world.deployed(SigletActivity)
    keys.follow()
    assert keys.signing == first(keys)
    assert env.dispose(keys.world.agent(SigletActivity)) == Complete()
    assert keys.signing is None
