"""The feed over HTTP and in Postgres: no reader misses anything, whatever commits when."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from cfm_core.contracts.reply import Reply
from cfm_core.eventing.cloudevents import BATCH, event, from_request
from cfm_core.settings import Settings
from cfm_core.store.database import Database, connect
from cfm_core.tenancy.feed.model import START, Kind, Place, Subject, place_of
from cfm_core.tenancy.feed.service import Feed
from cfm_core.tenancy.feed.store import SQL, PostgresFeed, _condition
from tests.contract.tenancy.world import ABSENT
from tests.integration.tenant_manager.api import Answer, Api, Fabric, deliver
from tests.support.feed import settle

BASE = "/api/v1alpha1"


def following(answer: Answer) -> str:
    """The path of the next batch, as the link names it."""
    match = re.fullmatch(r'<http://localhost/api/v1alpha1(/events\?[^>]+)>; rel="next"', answer.headers["Link"])
    assert match is not None, answer.headers["Link"]
    return match[1]


def test_the_feed_is_a_batch_of_cloud_events_with_a_link_to_what_comes(fabric: Fabric, database: Database) -> None:
    fabric.deploy()
    settle(database)
    first = fabric.api.get("/events?limit=3&subject=")
    assert (first.status, first.headers["Content-Type"]) == (200, BATCH)
    read, is_batch = from_request({"Content-Type": BATCH}, first.text.encode())
    assert (is_batch, read) == (True, first.json)
    assert [one["type"] for one in first.json] == [
        *("cfm.tenant.created", "cfm.cell.created", "cfm.dataspace-profile.created")
    ]
    second = fabric.api.get(following(first))
    assert [one["type"] for one in second.json] == ["cfm.dataspace-profile.changed", "cfm.participant-profile.created"]
    third = fabric.api.get(following(second))
    assert third.text == "[]"
    assert following(third) == following(second)
    fabric.api.delete(f"/tenants/{fabric.api.post('/tenants', {}).json['id']}")
    settle(database)
    assert [one["type"] for one in fabric.api.get(following(third)).json] == [
        "cfm.tenant.created",
        "cfm.tenant.deleted",
    ]


def test_the_link_keeps_what_was_asked_for(fabric: Fabric, database: Database) -> None:
    settle(database)
    answer = fabric.api.get(f"/events?subject=tenants/{fabric.tenant}&limit=1")
    (one,) = answer.json
    assert urlsplit(following(answer)).query == f"subject=tenants%2F{fabric.tenant}&limit=1&after={one['sequence']}"
    assert fabric.api.get(following(answer)).text == "[]"
    assert fabric.api.get("/events?subject=users").text == "[]"


def test_what_is_put_is_told_as_made_once_and_as_changed_after_that(api: Api, database: Database) -> None:
    documents = {
        "cells": {"state": "active"},
        "dataspace-profiles": {},
        "roles": {"name": "n"},
        "users": {"subject": "s"},
    }
    for kind, document in documents.items():
        for expected in (201, 200):
            assert api.request("PUT", f"/{kind}/{ABSENT}", document).status == expected
    settle(database)
    assert [(one["type"], one["subject"]) for one in api.get("/events").json] == [
        (f"cfm.{kind.removesuffix('s')}.{happening}", f"{kind}/{ABSENT}")
        for kind in documents
        for happening in ("created", "changed")
    ]


def test_a_batch_has_a_hundred_events_and_a_thousand_at_most(api: Api, database: Database) -> None:
    fill(database, 1100)
    assert [len(api.get(f"/events?{query}").json) for query in ("", "limit=1000", "limit=1001", "limit=9999")] == [
        *(100, 1000, 1000, 1000)
    ]


@pytest.mark.parametrize(
    "query",
    [
        "after=x",
        f"after={'7' * 32}",
        "after=-1",
        "subject=secrets",
        "subject=tenants/x",
        "limit=-1",
        "limit=x",
        "limit=1.5",
    ],
)
def test_what_cannot_be_read_is_refused(api: Api, query: str) -> None:
    answer = api.get(f"/events?{query}")
    assert (answer.status, [error["pointer"] for error in answer.json["errors"]]) == (400, [f"/{query.split('=')[0]}"])


def test_the_feed_tells_nothing_that_callers_have_written(api: Api, database: Database) -> None:
    hidden = {"properties": {"marker-k": "marker-v"}}
    tenant = api.post("/tenants", hidden).json["id"]
    api.patch(f"/tenants/{tenant}", {"properties": {"x": "marker"}})
    cell = api.post("/cells", {"state": "active", "externalId": "marker"} | hidden).json["id"]
    spec = {"protocolStack": ["marker"], "credentialSpecs": [{"id": "marker", "type": "marker"}]}
    dataspace = api.post("/dataspace-profiles", {"dataspaceSpec": spec, "artifacts": ["marker"]} | hidden).json["id"]
    api.post(f"/dataspace-profiles/{dataspace}/deployments", {"cellId": cell})
    role = api.post("/roles", {"name": "marker", "description": "marker"} | hidden).json["id"]
    api.post("/users", {"subject": "marker", "name": "marker", "roleIds": [role]} | hidden)
    deployed = api.post(
        f"/tenants/{tenant}/participant-profiles",
        {"identifier": "did:marker", "vpaProperties": {"cfm.dataplane": {"marker": "marker"}}} | hidden,
    ).json
    failed = {
        "id": "r",
        "manifestId": deployed["orchestrationId"],
        "correlationId": deployed["id"],
        "orchestrationType": "cfm.orchestration.vpa.deploy",
        "success": False,
        "errorDetail": "marker",
        "properties": {"marker": "marker"},
    }
    response = event(type="t", source="s", subject="event.cfm-orchestration-response", data=failed)
    assert deliver("apply_orchestration_responses", [response]) == Reply()
    settle(database)
    told = api.get("/events").text
    assert told.count('"specversion"') == 9
    assert "marker" not in told
    assert "marker" not in str(database.rows("SELECT f::text FROM eventing.feed f"))


def test_a_request_with_a_key_is_told_once_and_one_that_fails_never(api: Api, database: Database) -> None:
    repeating = Api({"Idempotency-Key": "k"})
    for _ in range(2):
        assert repeating.post("/roles", {"name": "r"}).status == 201
    assert api.post("/roles", {"name": "r"}).status == 409
    settle(database)
    assert [one["type"] for one in api.get("/events").json] == ["cfm.role.created"]


def test_the_memory_store_has_a_feed_too(serve: Callable[[Settings], None]) -> None:
    serve(Settings(store="memory", auth="off"))
    api = Api()
    tenant = api.post("/tenants", {}).json["id"]
    answer = api.get("/events?subject=tenants")
    assert [one["subject"] for one in answer.json] == [f"tenants/{tenant}"]
    assert api.get(following(answer)).text == "[]"


# Transactions that overlap ------------------------------------------------------------------------------------------------

TENANT = "INSERT INTO tenant_manager.tenants (id, properties) VALUES (gen_random_uuid(), '{}') RETURNING id::text"


def ids(feed: Feed, after: str) -> tuple[list[str], str]:
    batch = feed.read(after)
    return [one["data"]["id"] for one in json.loads(batch.text)], batch.last


def test_what_commits_late_comes_before_what_began_later(database: Database, database_url: str) -> None:
    feed = Feed(PostgresFeed(database))
    early, late = connect(database_url), connect(database_url)
    early.run("BEGIN")
    ((first,),) = early.run(TENANT)
    late.run("BEGIN")
    ((second,),) = late.run(TENANT)
    late.run("COMMIT")
    assert ids(feed, "") == ([], str(START))
    ((third,),) = early.run(TENANT)
    early.run("COMMIT")
    settle(database)
    found, last = ids(feed, "")
    assert found == [first, third, second]
    assert ids(feed, last) == ([], last)
    early.close()
    late.close()


def test_a_transaction_that_began_first_and_wrote_last_is_not_missed(database: Database, database_url: str) -> None:
    """It has no number, and so no place, before it writes."""
    feed = Feed(PostgresFeed(database))
    early, late = connect(database_url), connect(database_url)
    early.run("BEGIN")
    early.run("SELECT count(*) FROM tenant_manager.tenants")
    ((second,),) = late.run(TENANT)
    settle(database)
    found, last = ids(feed, "")
    assert found == [second]
    ((first,),) = early.run(TENANT)
    assert ids(feed, last) == ([], last)
    early.run("COMMIT")
    settle(database)
    assert ids(feed, last)[0] == [first]
    early.close()
    late.close()


def test_what_is_rolled_back_was_never_told(database: Database, database_url: str) -> None:
    feed = Feed(PostgresFeed(database))
    connection = connect(database_url)
    connection.run("BEGIN")
    connection.run(TENANT)
    ((kept,),) = database.rows(TENANT)
    connection.run("ROLLBACK")
    connection.run("BEGIN")
    ((also,),) = connection.run(TENANT)
    connection.run("SAVEPOINT s")
    connection.run(TENANT)
    connection.run("ROLLBACK TO SAVEPOINT s")
    connection.run("COMMIT")
    settle(database)
    assert ids(feed, "")[0] == [kept, also]
    connection.close()


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_a_reader_beside_many_writers_gets_everything_once(database_url: str, limit: int) -> None:
    """Writers whose transactions end in another order than they began; some are undone."""
    writers, rounds = 6, 40
    database = Database(database_url, size=writers + 1)
    feed = Feed(PostgresFeed(database))
    running = threading.Semaphore(0)
    committed: list[str] = []

    def write(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for _ in range(rounds):
                made: list[str] = []
                with suppress(InterruptedError), database.transaction() as transaction:
                    for _ in range(dice.randint(1, 3)):
                        made += [key for (key,) in transaction.rows(TENANT)]
                        transaction.rows(
                            "SELECT count(*) FROM generate_series(1, :n::integer)", n=dice.choice([1, 20000])
                        )
                    if dice.random() < 0.2:
                        made.clear()
                        raise InterruptedError
                committed.extend(made)
        finally:
            running.release()

    def read() -> tuple[list[str], list[str]]:
        places: list[str] = []
        found: list[str] = []
        last, ended = "", 0
        while True:
            ended += running.acquire(blocking=False)
            if ended == writers:
                settle(database)
            batch = feed.read(last, "tenants", limit)
            events = json.loads(batch.text)
            assert not events or last < events[0]["sequence"], "a reader goes back, and would never end"
            places += [one["sequence"] for one in events]
            found += [one["data"]["id"] for one in events]
            last = batch.last
            if ended == writers and not events:
                return places, found

    with ThreadPoolExecutor(writers + 1) as pool:
        reading = pool.submit(read)
        for done in [pool.submit(write, seed) for seed in range(writers)]:
            done.result()
        places, found = reading.result()
    assert places == sorted(set(places))
    assert sorted(found) == sorted(committed)
    database.close()


# Many events --------------------------------------------------------------------------------------------------------------


def fill(database: Database, events: int) -> None:
    """Events of many tenants and a few cells, each in a place of its own before every real one."""
    database.rows(
        "INSERT INTO eventing.feed (xid, kind, entity_id, type, data)"
        " SELECT (1 + n / 3)::text::xid8, CASE WHEN n % 5000 = 0 THEN 'cells' ELSE 'tenants' END,"
        "        md5((n % 1000)::text)::uuid, 't', '{}'"
        "   FROM generate_series(1, :events::integer) n",
        events=events,
    )
    database.rows("ANALYZE eventing.feed")


def indexes_of(node: dict[str, Any]) -> set[str]:
    """The indexes that a plan reads; a sequential scan counts as ``all``."""
    own = {node["Index Name"]} if "Index Name" in node else {"all"} if node["Node Type"] == "Seq Scan" else set()
    return own.union(*map(indexes_of, node.get("Plans", ())))


@pytest.mark.parametrize(
    ("subject", "index"),
    [
        (None, "feed_pkey"),
        (Subject(Kind.CELLS), "feed_kind"),
        (Subject(Kind.USERS), "feed_kind"),
        (Subject(Kind.TENANTS, "c4ca4238-a0b9-2382-0dcc-509a6f75849b"), "feed_entity"),
    ],
    ids=str,
)
@pytest.mark.parametrize("limit", [100, 1000])
def test_a_reader_enters_an_index_at_its_place(
    database: Database, subject: Subject | None, index: str, limit: int
) -> None:
    fill(database, 60_000)
    condition, wanted = _condition(subject)
    ((plan,),) = database.query(
        "EXPLAIN (FORMAT JSON) " + SQL["read"].replace("<<condition>>", condition),
        source="s",
        xid="10000",
        serial=1,
        limit=limit,
        **wanted,
    )
    (root,) = json.loads(plan) if isinstance(plan, str) else plan
    assert indexes_of(root["Plan"]) == {index}


def test_old_events_are_forgotten_and_young_ones_stay(api: Api, database: Database) -> None:
    fill(database, 100)
    database.rows(
        "UPDATE eventing.feed"
        "   SET at = now() - CASE WHEN xid < '20' THEN interval '7 days 1 minute' ELSE interval '6 days 23 hours' END"
    )
    (young,) = database.rows("SELECT count(*)::integer FROM eventing.feed WHERE xid >= '20'")
    api.post("/tenants", {})
    tick = [event(type="tick", source="test", subject="", data=None, id="1")]
    assert deliver("forget_events", tick) == Reply()
    assert database.rows("SELECT count(*)::integer FROM eventing.feed") == [[young[0] + 1]]
    settle(database)
    first = json.loads(PostgresFeed(database).read(START, None, 1)[0])[0]
    assert place_of(first["sequence"]).transaction == 20


def test_events_are_forgotten_some_at_a_time(database: Database) -> None:
    fill(database, 25)
    database.rows("UPDATE eventing.feed SET at = now() - interval '8 days'")
    store = PostgresFeed(database)
    week = database.value("SELECT interval '7 days'")
    assert [store.forget(week, 10) for _ in range(4)] == [10, 10, 5, 0]


def test_places_are_in_the_order_of_their_texts() -> None:
    dice = random.Random(5)
    places = [Place(dice.choice([0, 1, 9, 10, 255, 2**31, 2**62]), dice.randrange(2**40)) for _ in range(200)]
    assert sorted(places) == [place_of(text) for text in sorted(map(str, places))]
