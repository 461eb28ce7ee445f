"""Our records as agents ask for them; the real Tenant Manager answers in the tests of the agent."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx2
import pytest

from cfm_core.clients.http import HttpClient
from cfm_core.clients.tenant_manager import TenantManager
from cfm_core.errors import FatalError

PROFILE = {
    "id": "p",
    "tenantId": "t",
    "identifier": "did:web:acme",
    "participantRoles": {"a": ["maker"]},
    "dataspaceProfileIds": ["a"],
    "vpas": [{"type": "cfm.connector", "state": "active"}],
    "properties": {"cfm.vpa.state": {"participantContextId": "pc"}},
}


def records(answer: Callable[[httpx2.Request], httpx2.Response]) -> TenantManager:
    return TenantManager(HttpClient(transport=httpx2.MockTransport(answer)), "http://tm", lambda: "token")


def test_a_profile_is_read() -> None:
    (found,) = records(lambda request: httpx2.Response(200, json=[PROFILE])).participants()
    assert (found.context, found.is_active, found.is_disposed) == ("pc", True, False)
    assert found.roles == {"a": ("maker",)}


@pytest.mark.parametrize(
    ("states", "active", "disposed"),
    [
        (["active", "active"], True, False),
        (["active", "pending"], False, False),
        (["disposed"], False, True),
        ([], False, False),
    ],
)
def test_a_participant_is_what_all_its_agents_are(states: list[str], active: bool, disposed: bool) -> None:
    profile = PROFILE | {"vpas": [{"type": "x", "state": state} for state in states]}
    (found,) = records(lambda request: httpx2.Response(200, json=[profile])).participants()
    assert (found.is_active, found.is_disposed) == (active, disposed)


def test_it_shows_its_token_and_has_nothing_counted() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["Authorization"] == "Bearer token"
        assert request.headers["Prefer"] == "count=none"
        return httpx2.Response(200, json=[])

    assert records(answer).participants() == []


def test_many_names_are_asked_for_in_predicates_that_are_not_too_long() -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content)["predicate"])
        return httpx2.Response(200, json=[])

    dids = [f"did:web:{'x' * 100}{number}" for number in range(100)] + [f"d{number}" for number in range(120)] + ["o'x"]
    list(records(answer).with_dids([*dids, *dids]))
    assert max(map(len, asked)) < 4096
    assert max(one.count("'") // 2 for one in asked) <= 64
    assert [sum(f"'{did}'" in one for one in asked) for did in dids[:-1]] == [1] * 220
    assert sum("'o''x'" in one for one in asked) == 1


@pytest.mark.parametrize(
    "change", [{"id": None}, {"vpas": [{}]}, {"vpas": "x"}, {"properties": "x"}, {"participantRoles": "x"}], ids=str
)
def test_what_is_no_profile_is_named(change: dict[str, object]) -> None:
    with pytest.raises(FatalError, match="POST http://tm/api/v1alpha1/participant-profiles/query answered"):
        records(lambda request: httpx2.Response(200, json=[PROFILE | change])).participants()
