"""Requests with an ``Idempotency-Key``: first, repeated, at once, failed, forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from cfm_core.settings import Settings
from cfm_core.store.database import Database
from cfm_core.store.idempotent_answers import PostgresIdempotentAnswers
from tests.integration.http.api import Answer, Api, Fabric, contents
from tests.support.tokens import Issuer

KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"


@pytest.fixture(params=["postgres", "memory"])
def any_store(request: pytest.FixtureRequest, serve: Callable[[Settings], None], database_url: str) -> Api:
    serve(Settings(database_url=database_url, auth="off", store=request.param))
    return Api()


def total(api: Api, path: str = "/tenants") -> str:
    return api.get(path).headers["X-Total-Count"]


def kept(database: Database) -> list[int]:
    return [status for (status,) in database.rows("SELECT status FROM http.idempotent_answers ORDER BY at")]


@contextmanager
def held_up(database: Database, statement: str, call: Callable[[], Answer]) -> Iterator[tuple[Future[Answer], int]]:
    """``call`` is under way and waits for a lock that ``statement`` holds; gives its answer to come, and its backend."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as transaction:
            transaction.rows(statement)
            future = pool.submit(call)
            deadline = time.monotonic() + 20
            while (backend := database.value(waiting)) is None:
                assert time.monotonic() < deadline, "the request waits for nothing"
            yield future, backend
        future.result(30)


def test_a_repeated_request_takes_effect_once_and_has_the_same_answer(any_store: Api) -> None:
    first = any_store.post("/tenants", {"properties": {"a": "<é>"}, "zzz": 1}, idempotency_key=KEY)
    again = any_store.post("/tenants/", {"properties": {"a": "<é>"}, "zzz": 1}, idempotency_key=KEY)
    assert first.status == 201
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status, again.text) == (first.status, first.text)
    for name in ("Location", "ETag", "Warning", "Content-Type"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    assert total(any_store) == "1"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/tenants", {"properties": {"a": 2}}), ("/tenants?fieldValidation=Strict", {"properties": {"a": 1}})],
)
def test_a_key_belongs_to_one_request(any_store: Api, path: str, body: object) -> None:
    any_store.post("/tenants", {"properties": {"a": 1}}, idempotency_key=KEY)
    other = any_store.post(path, body, idempotency_key=KEY)
    assert (other.status, other.json["type"]) == (422, "/problems/unprocessable-content")
    assert total(any_store) == "1"


def test_a_key_counts_for_one_path(any_store: Api) -> None:
    assert any_store.post("/tenants", {"state": "active"}, idempotency_key=KEY).status == 201
    cell = any_store.post("/cells", {"state": "active"}, idempotency_key=KEY)
    assert cell.status == 201
    assert "Idempotency-Replayed" not in cell.headers


def test_a_refusal_is_kept_and_what_was_done_till_then_is_undone(any_store: Api) -> None:
    other = any_store.post("/cells", {"state": "active", "externalId": "west"}).json["id"]
    refused = any_store.post("/cells", {"state": "active", "externalId": "west"}, idempotency_key=KEY)
    assert (refused.status, refused.headers.get("Idempotency-Replayed")) == (409, None)
    assert any_store.delete(f"/cells/{other}").status == 200
    again = any_store.post("/cells", {"state": "active", "externalId": "west"}, idempotency_key=KEY)
    assert (again.status, again.headers["Idempotency-Replayed"], again.text) == (409, "true", refused.text)
    assert total(any_store, "/cells") == "0"


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256, "a\x7f"])
def test_a_key_that_is_none_is_refused(any_store: Api, key: str) -> None:
    answer = any_store.post("/tenants", {}, idempotency_key=key)
    assert (answer.status, answer.json["message"][:24]) == (400, "Invalid Idempotency-Key:")
    assert total(any_store) == "0"
    assert any_store.post("/tenants", {}, idempotency_key="!~" * 127).status == 201


def test_queries_and_other_methods_take_no_key(any_store: Api, database: Database) -> None:
    tenant = any_store.post("/tenants", {}).headers["Location"].removeprefix("/api/v1alpha1")
    for properties in ({"a": 1}, {"b": 1}):
        assert any_store.patch(tenant, {"properties": properties}, idempotency_key=KEY).status == 200
    for predicate in ("true", "id = 'x'"):
        answer = any_store.post("/tenants/query", {"predicate": predicate}, idempotency_key=KEY)
        assert (answer.status, "Idempotency-Replayed" in answer.headers) == (200, False)
    assert any_store.get(tenant).json["properties"] == {"a": 1, "b": 1}
    assert kept(database) == []


def test_a_malformed_request_is_kept_too_and_one_that_is_too_large_is_not(api: Api, database: Database) -> None:
    assert [api.post("/tenants", b"{", idempotency_key=KEY).status for _ in range(2)] == [400, 400]
    assert api.post("/tenants", b"{" + b" " * 1024 * 1024, idempotency_key="other").status == 413
    assert kept(database) == [400]


def test_while_the_first_is_under_way_a_second_is_asked_to_wait(api: Api, database: Database) -> None:
    lock = "LOCK TABLE tenant_manager.tenants IN EXCLUSIVE MODE"
    with held_up(database, lock, lambda: api.post("/tenants", {}, idempotency_key=KEY)) as (first, _):
        second = api.post("/tenants", {}, idempotency_key=KEY)
        assert (second.status, second.json["retryable"], second.headers["Retry-After"]) == (409, True, "1")
    third = api.post("/tenants", {}, idempotency_key=KEY)
    assert (third.text, third.headers["Idempotency-Replayed"]) == (first.result().text, "true")
    assert total(api) == "1"


def test_a_request_whose_database_goes_away_leaves_neither_effect_nor_answer(api: Api, database: Database) -> None:
    before = contents(database)
    lock = "LOCK TABLE tenant_manager.tenants IN EXCLUSIVE MODE"
    with held_up(database, lock, lambda: api.post("/tenants", {}, idempotency_key=KEY)) as (first, backend):
        database.rows("SELECT pg_terminate_backend(:pid)", pid=backend)
        assert (first.result(30).status, first.result().json["retryable"]) == (503, True)
    assert contents(database) == before
    assert api.post("/tenants", {}, idempotency_key=KEY).status == 201


def test_a_request_that_is_lost_in_its_commit_can_be_repeated(api: Api, database: Database) -> None:
    database.rows("CREATE TABLE http.gate ()")
    database.rows("GRANT ALL ON http.gate TO PUBLIC")
    database.rows(
        "CREATE FUNCTION http.wait() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN LOCK TABLE http.gate IN SHARE MODE; RETURN NULL; END'"
    )
    database.rows(
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON http.idempotent_answers DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION http.wait()"
    )
    lock = "LOCK TABLE http.gate IN EXCLUSIVE MODE"
    with held_up(database, lock, lambda: api.post("/tenants", {}, idempotency_key=KEY)) as (first, backend):
        database.rows("SELECT pg_terminate_backend(:pid)", pid=backend)
        assert first.result(30).status == 503
    assert [api.post("/tenants", {}, idempotency_key=KEY).status for _ in range(2)] == [201, 201]
    assert total(api) == "1"


def test_an_answer_that_got_lost_after_the_commit_is_given_again(api: Api, database: Database) -> None:
    first = api.post("/tenants", {}, idempotency_key=KEY)
    database.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    again = api.post("/tenants", {}, idempotency_key=KEY)
    assert (again.status, again.text, again.headers["Idempotency-Replayed"]) == (201, first.text, "true")


def test_an_answer_is_forgotten_after_a_day(api: Api, database: Database) -> None:
    answers = PostgresIdempotentAnswers(database)
    api.post("/tenants", {}, idempotency_key=KEY)
    for age, count in (("23 hours 59 minutes", "1"), ("24 hours 1 second", "2")):
        database.rows("UPDATE http.idempotent_answers SET at = now() - CAST(:age AS text)::interval", age=age)
        api.post("/tenants", {}, idempotency_key=KEY)
        assert total(api) == count
    answers.forget()
    assert kept(database) == [201]
    database.rows("UPDATE http.idempotent_answers SET at = now() - interval '25 hours'")
    answers.forget()
    assert kept(database) == []


def test_a_key_counts_for_one_subject(serve: Callable[[Settings], None], database_url: str, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    serve(Settings.from_environ({**issuer.environ, "CFM_DATABASE_URL": database_url}))
    ids = set()
    for subject in ("one", "other", 'one", "POST'):
        api = Api({"Authorization": f"Bearer {issuer.token(claims={'sub': subject})}"})
        answers = [api.post("/tenants", {}, idempotency_key=KEY) for _ in range(2)]
        assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
        ids |= {answer.json["id"] for answer in answers}
    assert len(ids) == 3


def test_deploys_with_one_key_at_once_make_one_profile(fabric: Fabric, database: Database) -> None:
    before = database.value("SELECT count(*) FROM eventing.outbox")
    document = {"identifier": "did:web:bar"}

    def deploy(_: int) -> Answer:
        return fabric.api.post(fabric.profiles, document, idempotency_key=KEY)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(deploy, range(16)))
    accepted = {answer.text for answer in answers if answer.status == 202}
    assert len(accepted) == 1
    assert all(answer.status == 202 or answer.json["retryable"] for answer in answers)
    assert deploy(0).text in accepted
    assert fabric.api.get(f"{fabric.profiles}?q=identifier='did:web:bar'").headers["X-Total-Count"] == "1"
    assert database.value("SELECT count(*) FROM eventing.outbox") == before + 1
