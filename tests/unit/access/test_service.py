from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from cfm_core.access.model import EVERYTHING, Action, Resource, Right
from cfm_core.access.service import BELIEVED, Accesses, Found, Who
from cfm_core.errors import RecoverableError

READ = Right(Action.READ, Resource.TENANT)
WRITE = Right(Action.UPDATE, Resource.TENANT)


@dataclass(frozen=True)
class Caller:
    subject: str = "alice"
    issuer: str = "i"
    claims: Mapping[str, Any] = field(default_factory=dict)


class Stored:
    """Gives what a test has put there, and remembers what it was asked."""

    def __init__(self) -> None:
        self.users: dict[tuple[str, str], Found] = {}
        self.version = 1
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []
        self.is_down = False

    def find(self, issuer: str, subject: str, roles: Sequence[str]) -> Found:
        self.asked.append((issuer, subject, tuple(roles)))
        if self.is_down:
            raise RecoverableError("no database")
        found = self.users.get((issuer, subject))
        if found is not None:
            return Found(self.version, found.who, found.rights)
        return Found(self.version, Who.NOBODY, [WRITE] if "editor" in roles else [])


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def user(*rights: Right) -> Found:
    return Found(0, Who.USER, rights)


def test_a_user_has_the_rights_of_the_user(stored: Stored) -> None:
    stored.users["i", "alice"] = user(READ)
    assert Accesses(stored).of(Caller()).rights == (READ,)


def test_a_client_that_is_no_user_has_what_its_scopes_allow(stored: Stored) -> None:
    assert Accesses(stored).of(Caller()) is EVERYTHING


def test_two_issuers_name_two_people_alike(stored: Stored) -> None:
    stored.users["i", "alice"] = user(READ)
    accesses = Accesses(stored)
    assert accesses.of(Caller(issuer="i")).rights == (READ,)
    assert accesses.of(Caller(issuer="j")) is EVERYTHING


def test_who_was_a_user_has_nothing_even_with_roles(stored: Stored) -> None:
    stored.users["i", "alice"] = Found(0, Who.FORMER, [WRITE])
    assert Accesses(stored).of(Caller()).rights == ()
    assert Accesses(stored, roles_claim="roles").of(Caller(claims={"roles": ["editor"]})).rights == ()


def test_what_is_known_is_looked_up_once_while_it_is_believed(stored: Stored, clock: Clock) -> None:
    accesses = Accesses(stored, clock=clock)
    for _ in range(3):
        accesses.of(Caller())
        accesses.of(Caller("bob"))
        clock.now += BELIEVED.total_seconds() / 4
    assert len(stored.asked) == 2


def test_one_look_renews_the_belief_in_all_that_has_not_changed(stored: Stored, clock: Clock) -> None:
    accesses = Accesses(stored, clock=clock)
    accesses.of(Caller())
    accesses.of(Caller("bob"))
    clock.now += BELIEVED.total_seconds()
    accesses.of(Caller())
    accesses.of(Caller("bob"))
    assert [subject for _, subject, _ in stored.asked] == ["alice", "bob", "alice"]


def test_a_change_is_seen_when_the_belief_ends(stored: Stored, clock: Clock) -> None:
    stored.users["i", "alice"] = user(READ)
    accesses = Accesses(stored, clock=clock)
    assert accesses.of(Caller()).rights == (READ,)
    stored.users["i", "alice"], stored.version = user(), 2
    assert accesses.of(Caller()).rights == (READ,)
    clock.now += BELIEVED.total_seconds()
    assert accesses.of(Caller()).rights == ()


def test_a_change_seen_for_one_is_looked_up_for_the_others(stored: Stored, clock: Clock) -> None:
    stored.users["i", "alice"] = user(READ)
    accesses = Accesses(stored, clock=clock)
    accesses.of(Caller())
    stored.users["i", "alice"], stored.version = user(), 2
    accesses.of(Caller("bob"))
    assert accesses.of(Caller()).rights == ()


def test_a_change_of_this_process_is_seen_at_once(stored: Stored, clock: Clock) -> None:
    stored.users["i", "alice"] = user(READ)
    accesses = Accesses(stored, clock=clock)
    accesses.of(Caller())
    stored.users["i", "alice"], stored.version = user(WRITE), 2
    accesses.forget()
    assert accesses.of(Caller()).rights == (WRITE,)


def test_an_answer_that_was_overtaken_is_not_remembered(stored: Stored, clock: Clock) -> None:
    stored.users["i", "alice"] = user(READ)
    accesses = Accesses(stored, clock=clock)
    stored.version = 5
    accesses.of(Caller("bob"))
    stored.version = 4
    accesses.of(Caller())
    stored.users["i", "alice"], stored.version = user(), 5
    assert accesses.of(Caller()).rights == ()


def test_a_database_that_was_set_back_is_believed(stored: Stored, clock: Clock) -> None:
    accesses = Accesses(stored, clock=clock)
    stored.version = 9
    accesses.of(Caller())
    clock.now += BELIEVED.total_seconds()
    stored.version = 3
    accesses.of(Caller())
    accesses.of(Caller())
    assert len(stored.asked) == 2


def test_nobody_is_let_in_unlooked(stored: Stored, clock: Clock) -> None:
    accesses = Accesses(stored, clock=clock)
    accesses.of(Caller())
    stored.is_down = True
    clock.now += BELIEVED.total_seconds()
    with pytest.raises(RecoverableError):
        accesses.of(Caller())


def test_a_claim_that_names_users_makes_one_of_whoever_has_it(stored: Stored) -> None:
    stored.users["i", "alice@acme.example"] = user(READ)
    accesses = Accesses(stored, user_claim="email")
    assert accesses.of(Caller("7", claims={"email": "alice@acme.example"})).rights == (READ,)
    assert accesses.of(Caller("8", claims={"email": "mallory@acme.example"})).rights == ()


def test_a_machine_without_that_claim_is_not_looked_up(stored: Stored) -> None:
    assert Accesses(stored, user_claim="email").of(Caller()) is EVERYTHING
    assert stored.asked == []


@pytest.mark.parametrize("named", ["", None, ["alice"], 7, {}])
def test_whoever_has_that_claim_and_is_named_by_nothing_is_no_machine(stored: Stored, named: Any) -> None:
    claims = {"email": named, "roles": ["editor"]}
    assert Accesses(stored, user_claim="email").of(Caller(claims=claims)).rights == ()
    assert Accesses(stored, user_claim="email", roles_claim="roles").of(Caller(claims=claims)).rights == ()


def test_a_client_without_a_subject_is_not_looked_up(stored: Stored) -> None:
    assert Accesses(stored).of(Caller("")) is EVERYTHING
    assert stored.asked == []


@pytest.mark.parametrize(
    ("claim", "claims"),
    [
        ("roles", {"roles": ["editor", "other"]}),
        ("roles", {"roles": "other editor"}),
        ("realm_access.roles", {"realm_access": {"roles": ["editor"]}}),
        ("https://x.example/roles", {"https://x.example/roles": ["editor"]}),
    ],
)
def test_a_machine_has_the_rights_of_the_roles_in_its_token(stored: Stored, claim: str, claims: dict[str, Any]) -> None:
    assert Accesses(stored, roles_claim=claim).of(Caller(claims=claims)).rights == (WRITE,)


@pytest.mark.parametrize("roles", [[], "", ["unknown"], 7, {"editor": True}, [7], None])
def test_a_machine_with_roles_that_are_none_has_nothing(stored: Stored, roles: Any) -> None:
    assert Accesses(stored, roles_claim="roles").of(Caller(claims={"roles": roles})).rights == ()


@pytest.mark.parametrize("claims", [{}, {"roles": None}, {"realm_access": "roles"}])
def test_a_machine_without_roles_has_what_its_scopes_allow(stored: Stored, claims: dict[str, Any]) -> None:
    assert Accesses(stored, roles_claim="realm_access.roles").of(Caller(claims=claims)) is EVERYTHING


def test_a_users_token_may_carry_roles_and_has_nothing_of_them(stored: Stored) -> None:
    stored.users["i", "alice"] = user(READ)
    assert Accesses(stored, roles_claim="roles").of(Caller(claims={"roles": ["editor"]})).rights == (READ,)


def test_one_subject_with_other_roles_is_looked_up_again(stored: Stored) -> None:
    accesses = Accesses(stored, roles_claim="roles")
    assert accesses.of(Caller(claims={"roles": ["editor"]})).rights == (WRITE,)
    assert accesses.of(Caller(claims={"roles": []})).rights == ()


def test_what_is_remembered_has_an_end(stored: Stored) -> None:
    accesses = Accesses(stored)
    for number in range(5000):
        accesses.of(Caller(str(number)))
    accesses.of(Caller("4999"))
    assert len(stored.asked) == 5000
    accesses.of(Caller("0"))
    assert len(stored.asked) == 5001
