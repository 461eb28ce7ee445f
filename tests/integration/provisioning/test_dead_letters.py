"""Dead letters as the trigger leaves them and HTTP shows them, by many at once and with crashes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.dead_letter import DeadLetterNotice
from cfm_core.provisioning.dead_letters.model import as_published
from cfm_core.provisioning.dead_letters.service import DeadLetters
from cfm_core.provisioning.dead_letters.store import PostgresDeadLetters
from cfm_core.store.database import Database
from tests.contract.provisioning.test_dead_letters import EVENT, ORDER, notice
from tests.contract.provisioning.world import PostgresWorld
from tests.integration.provisioning.api import call, deliver
from tests.integration.provisioning.test_concurrency import THREADS, at_once


class Crash(Exception):
    pass


@pytest.fixture
def pool(emptied_url: str) -> Iterator[Database]:
    database = Database(emptied_url, size=THREADS)
    yield database
    database.close()


def letter_id(world: PostgresWorld) -> str:
    world.letters.keep([notice()])
    return str(world.database.value("SELECT id FROM provision_manager.dead_letter"))


def test_a_letter_that_many_bring_is_kept_once(pool: Database) -> None:
    letters = DeadLetters(PostgresDeadLetters(pool))
    at_once(lambda n: letters.keep([notice(f"{k}", reason=f"{n}") for k in range(20)]))
    assert pool.value("SELECT count(*) FROM provision_manager.dead_letter") == 20


def test_a_letter_that_many_replay_is_sent_once(world: PostgresWorld, pool: Database) -> None:
    id_ = letter_id(world)
    letters = DeadLetters(PostgresDeadLetters(pool))
    assert len({letter.replayed_at for letter in at_once(lambda _: letters.replay(id_, ORDER))}) == 1
    assert world.outbox() == [subjects.MANIFESTS]


def test_a_replay_that_is_not_committed_leaves_nothing_and_can_be_repeated(world: PostgresWorld) -> None:
    id_ = letter_id(world)
    with pytest.raises(Crash), world.database.joined():
        world.letters.replay(id_, ORDER)
        raise Crash
    assert (world.outbox(), world.letters.get(id_).replayed_at) == ([], None)
    world.letters.replay(id_, ORDER)
    assert world.outbox() == [subjects.MANIFESTS]


@pytest.mark.usefixtures("served")
def test_dead_letters_over_http(world: PostgresWorld) -> None:
    given: list[dict[str, Any]] = [
        notice("a", event=EVENT | {"id": "ö"}).to_json() | {"raw": ""},
        notice("b", event=None, raw=base64.b64encode(b"\xff{").decode()).to_json(),
    ]
    assert DeadLetterNotice.model_validate(given[1]).raw == b"\xff{"
    on = [subjects.dead_letter(subjects.MANIFESTS)] * 2
    assert deliver("keep_dead_letters", *given, on=on).failures == {}
    assert deliver("keep_dead_letters", *given, on=on).failures == {}
    for wrong in {"key": ""}, {"key": "k" * 513}, {"deliveries": -1}, {"deliveries": 2**31}:
        assert list(deliver("keep_dead_letters", given[0], given[0] | wrong, on=on).failures) == ["event 1"]
    first, second = call("GET", "/dead-letters").json
    assert (first["reason"], first["target"], first["deliveries"]) == ("bad", "start", 3)
    assert call("POST", "/dead-letters/query", {"predicate": f"id = {second['id']}"}).json == [second]
    path = f"/dead-letters/{first['id']}"
    read = call("GET", path)
    assert (read.json["event"]["id"], read.headers["ETag"]) == ("ö", '"0"')
    assert call("GET", path, headers={"If-None-Match": '"0"'}).status == 304
    assert call("POST", f"{path}/replay", headers={"If-Match": '"7"'}).status == 412
    replayed = call("POST", f"{path}/replay", headers={"If-Match": '"0"'})
    assert (replayed.status, replayed.headers["ETag"], "replayedAt" in replayed.json) == (200, '"1"', True)
    assert call("POST", f"{path}/replay").json == replayed.json
    assert world.outbox() == [subjects.MANIFESTS]
    refused = call("POST", f"/dead-letters/{second['id']}/replay")
    assert (refused.status, refused.json["allowedActions"]) == (409, ["discard"])
    assert call("DELETE", path).status == 200
    assert {call(method, path).status for method in ("GET", "DELETE")} == {404}
    assert [one["id"] for one in call("GET", "/dead-letters").json] == [second["id"]]


DNS = subjects.dead_letter(subjects.activity("acme.dns"))


@pytest.mark.usefixtures("served")
def test_a_letter_about_what_is_not_its_senders_is_kept_and_not_replayed(world: PostgresWorld) -> None:
    forged = notice("guessed").to_json() | {"raw": ""}
    for _ in "first", "repeated":
        assert deliver("keep_dead_letters", forged, on=[DNS]).failures == {}
    # It has kept nobody's away, be it with a key that was guessed.
    true = notice("guessed", reason="the true one").to_json() | {"raw": ""}
    assert deliver("keep_dead_letters", forged, true, on=[DNS, subjects.dead_letter(subjects.MANIFESTS)]).failures == {}
    of_forged, of_true = (call("GET", f"/dead-letters/{one['id']}").json for one in call("GET", "/dead-letters").json)
    assert (of_true["subject"], of_true["reason"]) == (subjects.MANIFESTS, "the true one")
    assert of_true["allowedActions"] == ["replay", "discard"]
    assert (of_forged["subject"], of_forged["target"], of_forged["allowedActions"]) == (DNS, "start", ["discard"])
    assert of_forged["reason"] == f"nobody files letters about {subjects.MANIFESTS} on {DNS}: bad"
    assert json.loads(base64.b64decode(of_forged["raw"])) == EVENT
    assert call("POST", f"/dead-letters/{of_forged['id']}/replay").status == 409
    assert world.outbox() == []


def test_of_letters_that_many_bring_with_one_key_each_subjects_is_kept_once(pool: Database) -> None:
    letters = DeadLetters(PostgresDeadLetters(pool))
    about = [subjects.MANIFESTS, subjects.RESULTS, subjects.activity("acme.dns")]
    at_once(lambda n: letters.keep([as_published(notice("k", subject=one), DNS) for one in about[n % 3 :] + about]))
    found = pool.rows("SELECT subject, event IS NULL FROM provision_manager.dead_letter ORDER BY subject")
    assert found == [[subjects.activity("acme.dns"), False], [DNS, True]]


def test_a_forged_letter_whose_keeping_is_not_committed_is_kept_when_it_comes_again(world: PostgresWorld) -> None:
    forged = as_published(notice(), DNS)
    with pytest.raises(Crash), world.database.joined():
        world.letters.keep([forged])
        raise Crash
    assert world.database.value("SELECT count(*) FROM provision_manager.dead_letter") == 0
    for _ in "after the crash", "once more":
        world.letters.keep([forged])
        assert world.database.value("SELECT count(*) FROM provision_manager.dead_letter") == 1


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("value", ["a\0b", "\ud800", float("inf")])
def test_a_forged_letter_with_what_no_database_can_hold_is_kept_like_any_other(value: Any) -> None:
    told = "a\0b" if value == "a\0b" else "a"
    forged = notice(event=EVENT | {"data": {"k": value}}, reason=told, subject=f"event.{told}", target=told)
    given = forged.model_dump(by_alias=True) | {"raw": ""}
    assert deliver("keep_dead_letters", given, on=[DNS]).failures == {}
    (kept,) = call("GET", "/dead-letters").json
    assert call("GET", f"/dead-letters/{kept['id']}").json["allowedActions"] == ["discard"]
