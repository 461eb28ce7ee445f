from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.dead_letter import DeadLetterNotice
from cfm_core.errors import ConflictError, NotFoundError, PreconditionFailedError, ValidationError
from cfm_core.provisioning.dead_letters.service import DeadLetters
from cfm_core.provisioning.dead_letters.v1alpha1 import to_entity
from cfm_core.provisioning.definitions.model import Activity
from cfm_core.provisioning.operations.model import Order
from cfm_core.query import Page
from cfm_core.versions import Expected
from tests.contract.provisioning.world import Driver, World, define, manifest

ORDER = Order(actor="ann", reason="", request_id="r")
EVENT = {"specversion": "1.0", "id": "e", "source": "s", "type": "t", "data": {"id": "o", "payload": {"ö": [1]}}}


def notice(key: str = "k", **said: Any) -> DeadLetterNotice:
    given = {"key": key, "subject": subjects.MANIFESTS, "target": "start", "reason": "bad", "deliveries": 3}
    return DeadLetterNotice.model_validate(given | {"event": EVENT} | said)


def listed(world: World, predicate: str = "true", **page: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(world.letters.select(predicate, Page(**page)).json)
    return found


def kept(world: World, *notices: DeadLetterNotice) -> list[str]:
    """The ids of the letters, in the order in which they came."""
    world.letters.keep(notices)
    return [str(one["id"]) for one in listed(world)]


def shown(world: World, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to_entity(world.letters.get(id_)).text)
    return found


def sent(world: World) -> list[Any]:
    return [(row.subject, row.events) for row in world.rows()]


def test_a_letter_is_kept_once_however_often_it_comes(world: World) -> None:
    (id_,) = kept(world, notice(), notice(reason="another"))
    assert kept(world, notice(deliveries=9)) == [id_]
    found = shown(world, id_)
    assert found.pop("at")
    assert found == {
        "id": int(id_),
        "version": 0,
        "subject": subjects.MANIFESTS,
        "target": "start",
        "reason": "bad",
        "deliveries": 3,
        "event": EVENT,
        "allowedActions": ["replay", "discard"],
    }


def test_letters_about_two_subjects_are_two_whatever_their_keys(world: World) -> None:
    both = [notice("k", subject=subjects.activity(name)) for name in ("a", "b")]
    ids = kept(world, *both)
    assert len(ids) == 2
    assert kept(world, *reversed(both)) == ids


def test_letters_are_listed_in_the_order_in_which_they_came_and_searched(world: World) -> None:
    notices = [notice(f"{n}", subject=f"event.{n % 2}", deliveries=n) for n in range(12)]
    ids = kept(world, *notices)
    assert [one["deliveries"] for one in listed(world)] == list(range(12))
    assert [one["deliveries"] for one in listed(world, "subject = 'event.1' AND deliveries > 6")] == [7, 9, 11]
    assert [one["deliveries"] for one in listed(world, limit=2, after=ids[8])] == [9, 10]
    assert all({"event", "raw"}.isdisjoint(one) for one in listed(world))
    world.letters.replay(ids[4], ORDER)
    assert [one["deliveries"] for one in listed(world, "replayedAt > '2026-01-01T00:00:00Z'")] == [4]
    for wrong in ({"predicate": "nope = 1"}, {"predicate": "true", "after": "x"}, {"predicate": "true", "after": "\0"}):
        with pytest.raises(ValidationError):
            listed(world, **wrong)


def test_what_could_not_be_read_is_kept_as_it_came(world: World) -> None:
    raw = b'\xff{"token": "secret", \0'
    (id_,) = kept(world, notice(event=None, raw=base64.b64encode(raw).decode()))
    assert world.letters.get(id_).raw == raw
    found = shown(world, id_)
    assert base64.b64decode(found["raw"]) == b'\xff{"token": "***", \0'
    assert found["allowedActions"] == ["discard"]
    with pytest.raises(ConflictError) as refused:
        world.letters.replay(id_, ORDER)
    assert refused.value.context == {"allowedActions": ["discard"]}
    assert sent(world) == []


def test_tokens_are_sent_again_and_not_shown(world: World) -> None:
    event = EVENT | {"data": {"token": 'se"cr\\et', "values": {"token": "t"}}}
    (id_,) = kept(world, notice(event=event, subject=subjects.RESULTS))
    assert shown(world, id_)["event"]["data"] == {"token": "***", "values": {"token": "***"}}
    world.letters.replay(id_, ORDER)
    assert sent(world) == [(subjects.RESULTS, [event])]


def test_a_letter_is_replayed_once(world: World) -> None:
    (id_,) = kept(world, notice())
    first = world.letters.replay(id_, ORDER)
    assert (first.version, first.allowed_actions) == (1, ("discard",))
    assert world.letters.replay(id_, ORDER) == first == world.letters.get(id_)
    assert sent(world) == [(subjects.MANIFESTS, [EVENT])]
    assert "replayedAt" in shown(world, id_)


def test_what_others_have_published_is_sent_to_its_function_alone(world: World) -> None:
    (id_,) = kept(world, notice(subject=subjects.KEY_PAIR_EVENTS))
    world.letters.replay(id_, ORDER)
    assert sent(world) == [("event.cfm.again.cfm-events=keypair", [EVENT])]


def test_a_letter_is_replayed_and_discarded_in_view_of_a_version(world: World) -> None:
    (id_,) = kept(world, notice())
    for expected in (Expected(frozenset({5})), Expected(exists=False)):
        with pytest.raises(PreconditionFailedError):
            world.letters.replay(id_, ORDER, expected)
        with pytest.raises(PreconditionFailedError):
            world.letters.discard(id_, ORDER, expected)
    assert (sent(world), world.letters.get(id_).version) == ([], 0)
    world.letters.replay(id_, ORDER, Expected(frozenset({0})))
    world.letters.discard(id_, ORDER, Expected(frozenset({1})))
    for absent in (
        lambda: world.letters.get(id_),
        lambda: world.letters.replay(id_, ORDER),
        lambda: world.letters.discard(id_, ORDER),
    ):
        with pytest.raises(NotFoundError):
            absent()


@pytest.mark.parametrize("id_", ["", "x", "-1", "1.5", "9" * 18, "9" * 19, "\0", "١"])
def test_an_id_that_no_letter_has_is_not_found(world: World, id_: str) -> None:
    for absent in (
        lambda: world.letters.get(id_),
        lambda: world.letters.replay(id_, ORDER),
        lambda: world.letters.discard(id_, ORDER),
    ):
        with pytest.raises(NotFoundError):
            absent()


@pytest.mark.parametrize("value", ["a\0b", "\ud800", float("inf")])
def test_what_no_database_can_hold_is_kept_and_not_sent_again(world: World, value: Any) -> None:
    event = EVENT | {"data": {"k": value, "token": "t"}}
    (id_,) = kept(world, notice(event=event, reason=f"bad {value}", target="\0"))
    found = shown(world, id_)
    assert json.loads(base64.b64decode(found["raw"])) == event | {"data": {"k": value, "token": "***"}}
    assert ("event" in found, found["allowedActions"], found["target"]) == (False, ["discard"], "\ufffd")
    assert found["reason"].encode()
    with pytest.raises(ConflictError):
        world.letters.replay(id_, ORDER)
    assert sent(world) == []


def test_letters_that_name_a_correlation_id_or_its_runs_are_erased_with_them(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t")])
    driver.start(manifest("ö/1", "one"))
    driver.complete("ö/1", "a")
    raw = base64.b64encode('{"orchestrationId": "ö/1", '.encode()).decode()
    outcome = {"orchestrationId": "ö/1", "values": {"name": "Ann"}}
    ids = kept(
        world,
        notice("1", event=EVENT | {"data": {"correlationId": "of ö/1"}}),
        notice("2", event=EVENT | {"data": outcome}),
        notice("3", event=None, raw=raw),
        notice("4", event=EVENT | {"data": outcome | {"orchestrationId": "ö/12"}}),
    )
    assert world.operations.erase("of ö/1", Order(actor="ann", reason="asked", request_id="r")) == 1
    assert [str(one["id"]) for one in listed(world)] == ids[3:]


def test_what_the_engine_could_not_take_in_can_be_taken_in_later(world: World, driver: Driver) -> None:
    define(world, one=[Activity("a", "t")])
    progress = driver.start(manifest("x" * 513, "one"), manifest("bad", "one", k="a\0b"), manifest("o", "one"))
    assert [failure.kept for failure in progress.reply(["1", "2", "3"]).failures.values()] == [True, True]
    too_long, unstorable = [str(one["id"]) for one in listed(world)]
    assert shown(world, too_long)["reason"] == "an orchestration id has at most 512 characters"
    assert shown(world, unstorable)["allowedActions"] == ["discard"]
    before = len(world.rows())
    world.letters.replay(too_long, ORDER)
    (row,) = list(world.rows())[before:]
    assert (row.subject, row.events[0]["data"]["id"]) == (subjects.MANIFESTS, "x" * 513)


def test_letters_are_forgotten_after_a_while(world: World) -> None:
    ids = kept(world, *(notice(f"{n}") for n in range(5)))
    assert DeadLetters(world.letters._store, timedelta(days=1)).forget() == 0
    assert [str(one["id"]) for one in listed(world)] == ids
    assert DeadLetters(world.letters._store, timedelta(0)).forget(most=2) == 5
    assert listed(world) == []
    assert DeadLetters(world.letters._store, timedelta(0)).forget(most=2) == 0


def test_what_is_done_to_letters_is_noted_once(world: World) -> None:
    one, two = kept(world, notice(), notice("two"))
    world.letters.replay(one, ORDER)
    world.letters.replay(one, ORDER)
    world.letters.discard(one, ORDER)
    with pytest.raises(PreconditionFailedError):
        world.letters.discard(two, ORDER, Expected(frozenset({5})))
    world.letters.discard(two, ORDER)
    noted = json.loads(world.audit.select("deadLetterId != ''", Page()).json)
    assert [(each["actor"], each["action"], each["deadLetterId"], each["before"], each["after"]) for each in noted] == [
        ("ann", "replay", one, "kept", "replayed"),
        ("ann", "discard", one, "replayed", "discarded"),
        ("ann", "discard", two, "kept", "discarded"),
    ]
    assert "reason" not in noted[0]
