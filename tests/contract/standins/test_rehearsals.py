"""Participants that bring their faults along, in their DIDs."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import pytest

from local.standins.rehearsals import SLOW_SECONDS
from tests.contract.standins.conftest import Platform
from tests.contract.standins.test_edc import (
    CONFIG,
    CONTEXT,
    CONTEXTS,
    HOLDER,
    HOLDERS,
    HUB,
    KEY,
    PARTICIPANT,
    PROCESSES,
    REQUEST,
)


class Participant:
    """One participant, with whose tokens each call is made that an activity makes."""

    def __init__(self, platform: Platform, did: str, context: str = "pc") -> None:
        self._platform = platform
        self._did = did
        self.context = context

    def call(self, method: str, path: str, scope: str, body: Any = None) -> httpx2.Response:
        return self._platform.call(method, path, body, bearer=self._platform.token(self.context, scope))

    def edcv(self) -> int:
        body = CONTEXT | {"@id": self.context, "identity": self._did}
        return self.call("POST", CONTEXTS, "management-api:admin", body).status_code

    def config(self) -> int:
        path = f"{CONTEXTS}/{self.context}/config"
        return self.call("PATCH", path, "management-api:admin", CONFIG | {"entries": {}}).status_code

    def identityhub(self) -> int:
        key = KEY | {"keyId": f"{self._did}#key1"}
        body = PARTICIPANT | {"participantContextId": self.context, "did": self._did, "key": key}
        return self.call("POST", HUB, "identity-api:admin", body).status_code

    def keys(self) -> int:
        return self.call("GET", f"{HUB}/{self.context}/keypairs", "identity-api:admin").status_code

    def registration(self) -> int:
        body = HOLDER | {"holderId": self.context, "did": self._did}
        return self.call("POST", HOLDERS, "issuer-admin-api:admin", body).status_code

    def onboarding(self) -> int:
        body = REQUEST | {"holderPid": f"pid-{self.context}"}
        path = f"{HUB}/{self.context}/credentials/request"
        return self.call("POST", path, "identity-api:credentials:write", body).status_code

    def request(self) -> httpx2.Response:
        path = f"{HUB}/{self.context}/credentials/request/pid-{self.context}"
        return self.call("GET", path, "identity-api:credentials:read")

    def everything(self) -> dict[str, int]:
        names = ("edcv", "config", "identityhub", "keys", "registration", "onboarding")
        return {name: getattr(self, name)() for name in names}


WELL = {"edcv": 200, "config": 204, "identityhub": 200, "keys": 200, "registration": 201, "onboarding": 201}


@pytest.mark.parametrize(
    ("name", "also"),
    [("edcv", {}), ("identityhub", {"onboarding": 401}), ("registration", {}), ("onboarding", {})],
)
def test_a_participant_is_refused_where_its_did_says_so_and_nowhere_else(
    platform: Platform, name: str, also: dict[str, int]
) -> None:
    refused = Participant(platform, f"did:web:fail-{name}.example")
    assert refused.everything() == WELL | {name: 403} | also
    assert Participant(platform, "did:web:acme.example", "other").everything() == WELL


def test_a_refused_participant_can_be_disposed_of(platform: Platform) -> None:
    refused = Participant(platform, "did:web:fail-registration.example")
    refused.everything()
    assert refused.call("DELETE", f"{CONTEXTS}/pc", "management-api:admin").status_code == 204
    assert refused.call("DELETE", f"{HUB}/pc", "identity-api:admin").status_code == 204
    assert refused.call("POST", f"{HOLDERS}/query", "issuer-admin-api:admin", {}).json() == []


def test_without_a_name_it_is_all_of_them(platform: Platform) -> None:
    assert Participant(platform, "did:web:fail:acme").edcv() == 403
    assert Participant(platform, "did:web:fail:acme").registration() == 403


@pytest.mark.parametrize(
    "did",
    ["did:web:failsafe.example", "did:web:fail-fast.example", "did:web:fail-edcv2.example", "did:web:acme:fail-edcv"],
)
def test_a_did_that_only_looks_like_a_rehearsal_is_none(platform: Platform, did: str) -> None:
    assert Participant(platform, did).everything() == WELL


def test_a_flaky_service_answers_503_to_each_call_that_comes_for_the_first_time(platform: Platform) -> None:
    flaky = Participant(platform, "did:web:flaky-edcv.example")
    assert [flaky.edcv(), flaky.config(), flaky.edcv(), flaky.config()] == [503, 503, 200, 204]
    assert flaky.identityhub() == 200
    # What did not take effect the first time is the reason why the second was no conflict.
    assert flaky.edcv() == 409


def test_a_flaky_service_is_flaky_for_each_deploy_of_the_participant(platform: Platform) -> None:
    for context in ("one", "two"):
        flaky = Participant(platform, "did:web:flaky-edcv.example", context)
        assert [flaky.edcv(), flaky.edcv()] == [503, 200]


def test_a_slow_service_takes_its_time_and_does_what_it_was_asked_for(platform: Platform) -> None:
    slow = Participant(platform, "did:web:slow-edcv.example")
    begun = time.monotonic()
    assert slow.edcv() == 200
    assert time.monotonic() - begun >= SLOW_SECONDS


def test_the_issuer_refuses_credentials_some_time_after_they_were_requested(platform: Platform) -> None:
    refused = Participant(platform, "did:web:fail-issuance.example")
    assert refused.everything() == WELL
    assert refused.request().json()["status"] == "CREATED"
    platform.now = 3
    assert refused.request().json()["status"] == "ERROR"
    query = {"filterExpression": [{"operandLeft": "holderPid", "operator": "=", "operandRight": "pid-pc"}]}
    (process,) = refused.call("POST", f"{PROCESSES}/query", "issuer-admin-api:admin", query).json()
    assert process["errorDetail"] == "a refusal that was rehearsed"
