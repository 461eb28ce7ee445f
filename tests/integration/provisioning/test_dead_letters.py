"""Dead letters as the trigger leaves them and HTTP shows them, by many at once and with crashes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.contracts.dead_letter import DeadLetterNotice
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
    assert deliver("keep_dead_letters", *given).failures == {}
    assert deliver("keep_dead_letters", *given).failures == {}
    assert list(deliver("keep_dead_letters", given[0], {"key": ""}).failures) == ["event 1"]
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
