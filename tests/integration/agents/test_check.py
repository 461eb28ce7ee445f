"""The check of agents: the project's own pass it, and each habit that it is there to find is found."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Fatal, activity
from cfm_core.clients.assembly import HTTP_CLIENT
from cfm_core.clients.http import HttpClient
from cfm_core.contracts.participant import recorded
from cfm_core.errors import RecoverableError
from local.agent.check import check
from local.agent.files import project_activities
from local.agent.ground import GroundError
from tests.support.shelf import Shelf, running

AGENTS = project_activities()


@pytest.mark.parametrize("activity_type", AGENTS)
def test_an_agent_of_the_project_can_be_repeated_interrupted_and_reordered(activity_type: str) -> None:
    cases = list(check(AGENTS[activity_type]))
    assert [str(case) for case in cases if case.problems] == []
    assert {case.name for case in cases} >= {"deploy", "dispose, as a user wishes, twice and once too often"}


class Storing:
    """Puts something on the shelf and takes it away; what is wrong with it, a subclass says."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._url = os.environ["SHELF_URL"]

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        did = ctx.values["cfm.participant.id"]
        self._http.send("PUT", f"{self._url}/things/one", json={"owner": did})
        ctx.set_output("thing", "one")
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        self._http.send("DELETE", f"{self._url}/things/one", expect=(404,))
        return Complete()


def declared(cls: type[Any]) -> type[Any]:
    return activity(f"test.{cls.__name__.lower()}", requires=[HTTP_CLIENT])(cls)


@declared
class Good(Storing):
    pass


@declared
class MakesIdsUp(Storing):
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        name = str(uuid.uuid4())
        self._http.send("PUT", f"{self._url}/things/{name}", json={})
        ctx.set_output("thing", name)
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        name = ctx.values.get("cfm.vpa.state", {}).get("thing", "none")
        self._http.send("DELETE", f"{self._url}/things/{name}", expect=(404,))
        return Complete()


@declared
class MakesAnotherEachTime(Storing):
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        answer = self._http.send("POST", f"{self._url}/things", json={"owner": ctx.values["cfm.participant.id"]})
        ctx.set_output("thing", answer.object()["id"])
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        for thing in self._http.send("GET", f"{self._url}/things").objects():
            self._http.send("DELETE", f"{self._url}/things/{thing['id']}", expect=(404,))
        return Complete()


@declared
class TakesAConflictForFatal(Storing):
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        self._http.send("POST", f"{self._url}/things", json={"id": "one"})
        return Complete()


@declared
class LeavesEverything(Storing):
    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        return Complete()


@declared
class DisposesOnce(Storing):
    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        self._http.send("DELETE", f"{self._url}/things/one")
        return Complete()


@declared
class LooksAtTheTopOnly(Storing):
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        ctx.set_value("thing", "one")
        return super().deploy(ctx)

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        if "thing" in ctx.values:
            return super().dispose(ctx)
        return Complete()


@declared
class RemembersWithItsAnswerOnly(Storing):
    """What a crash leaves is not recorded, so it is not found."""

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        if recorded(ctx.values, "thing") or ctx.outputs.get("thing"):
            return super().dispose(ctx)
        return Complete()

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        ctx.set_value("thing", "one")
        return super().deploy(ctx)


@declared
class CountsItsRuns(Storing):
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        ctx.set_output("runs", ctx.outputs.get("runs", 0) + 1)
        return super().deploy(ctx)


@declared
class GivesUpWithoutAnAnswer(Storing):
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        try:
            return super().deploy(ctx)
        except RecoverableError as error:
            return Fatal(str(error))


@declared
class CleansUpAfterErrorsOnly(MakesAnotherEachTime):
    """That helps where an answer is lost, and not where the process is gone."""

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        try:
            return super().deploy(ctx)
        except RecoverableError:
            self.dispose(ctx)
            raise


@activity("test.tellssecrets", requires=[HTTP_CLIENT], secrets=["key"])
class TellsSecrets(Storing):
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        self._http.send("PUT", f"{self._url}/things/one", json={"padding": "x" * 100, "key": ctx.secrets["key"]})
        return Complete()

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        return Complete()


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with running() as shelf:
        yield shelf


def failed(cls: type[Any], shelf: Shelf) -> dict[str, str]:
    return {
        case.name: "\n".join(case.problems) for case in check(cls, services={"SHELF_URL": shelf.url}) if case.problems
    }


def test_an_agent_of_a_service_of_ones_own_passes(shelf: Shelf) -> None:
    assert failed(Good, shelf) == {}
    assert shelf.things == {}
    assert "SHELF_URL" not in os.environ


CALL = "call 1 of 1, PUT /things/one"


@pytest.mark.parametrize(
    ("cls", "case", "words"),
    [
        (MakesIdsUp, "fresh run of the same deployment", "/outputs/thing: "),
        (MakesAnotherEachTime, "crash after call 1 of 1, POST /things", "/held/SHELF_URL/POST ~1things: 2 instead of 1"),
        (MakesAnotherEachTime, "overtaken before call 1 of 1, POST /things", "2 instead of 1"),
        (TakesAConflictForFatal, "crash after call 1 of 1, POST /things", "it failed: POST http://127.0.0.1"),
        (LeavesEverything, "dispose, as compensation, twice and once too often", "left behind: /SHELF_URL/PUT ~1things~1one"),
        (DisposesOnce, "dispose before any deploy", "answered 404"),
        (DisposesOnce, "dispose, as a user wishes, twice and once too often", "the second time: it failed"),
        (LooksAtTheTopOnly, "dispose, as a user wishes, twice and once too often", "left behind"),
        (RemembersWithItsAnswerOnly, f"dispose after a crash in deploy after {CALL}", "left behind"),
        (CleansUpAfterErrorsOnly, "crash after call 1 of 1, POST /things", "2 instead of 1"),
        (CountsItsRuns, "deploy run again with what it recorded", "/outputs/runs: 2 instead of 1"),
        (GivesUpWithoutAnAnswer, f"answer lost of {CALL}", "a lost answer ended it for good"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)  # fmt: skip
def test_a_bad_habit_is_found_where_it_does_harm(shelf: Shelf, cls: type[Any], case: str, words: str) -> None:
    found = failed(cls, shelf)
    assert case in found
    assert words in found[case]


def test_a_crash_lets_nothing_through_and_a_lost_answer_does(shelf: Shelf) -> None:
    found = failed(CleansUpAfterErrorsOnly, shelf)
    assert "crash after call 1 of 1, POST /things" in found
    assert "answer lost of call 1 of 1, POST /things" not in found


@pytest.mark.parametrize("secret", ["0123456789abcdef", 'with "quotes" and \\ and é'])
def test_what_differs_is_told_without_secrets(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.touch(0o600)
    secrets.write_text(json.dumps({"key": secret}))
    monkeypatch.setenv("CFM_SECRETS_FILE", str(secrets))
    told = json.dumps(failed(TellsSecrets, shelf), ensure_ascii=False)
    assert "left behind: /SHELF_URL/PUT ~1things~1one" in told
    for part in (secret[:6], json.dumps(secret)[1:7]):
        assert part not in told


def test_a_secret_that_is_not_there_is_no_case(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CFM_SECRETS_FILE", raising=False)
    with pytest.raises(GroundError, match="the secrets key cannot be read: no secret 'key'"):
        failed(TellsSecrets, shelf)


def test_an_agent_that_cannot_be_made_is_no_case() -> None:
    with pytest.raises(GroundError, match=r"Good cannot be made: KeyError: 'SHELF_URL'"):
        list(check(Good))


def test_what_is_to_be_ignored_does_not_count(shelf: Shelf) -> None:
    cases = check(CountsItsRuns, services={"SHELF_URL": shelf.url}, ignore="^/outputs/runs$")
    assert [case for case in cases if case.problems] == []
