from __future__ import annotations

import functools
import json
import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import ValidationError as Malformed

from cfm_core.errors import (
    CfmError,
    ConflictError,
    NotFoundError,
    PreconditionFailedError,
    RefusedError,
    ValidationError,
)
from cfm_core.query import Page
from cfm_core.tenancy.roles.v1alpha1 import MOST, NewRole, RightDocument, RoleDiff
from cfm_core.tenancy.users.model import MOST_ROLES
from cfm_core.tenancy.users.v1alpha1 import NewUser, UserDiff
from cfm_core.versions import Expected
from tests.contract.tenancy.world import ABSENT, ALL, World

EVERYTHING = {"action": "*", "resource": "*"}
BOUNDED = {
    "action": "deploy",
    "resource": "participantProfile",
    "tenantId": "00000000-0000-4000-8000-000000000001",
    "participantProfileId": "00000000-0000-4000-8000-000000000002",
    "cellId": "00000000-0000-4000-8000-000000000003",
}
ONE_VPA = {"action": "read", "resource": "vpa", "vpaId": "00000000-0000-4000-8000-000000000004"}
UNKNOWN = [ABSENT, "no-uuid", "", "a\0b"]


def role(world: World, role_id: str) -> Any:
    return json.loads(world.roles.get(role_id).text)


def user(world: World, user_id: str) -> Any:
    return json.loads(world.users.get(user_id).text)


def test_a_new_role_is_shown_with_its_rights_in_their_order(world: World) -> None:
    properties = {"n": 1, "deep": {"a": ['é"\\']}}
    document = {
        "name": 'the "first"',
        "description": "all",
        "rights": [BOUNDED, EVERYTHING, ONE_VPA],
        "properties": properties,
    }
    role_id, entity = world.roles.create(NewRole.model_validate(document))
    shown = json.loads(entity.text)
    assert shown == {"id": role_id, "version": 0} | document
    assert list(shown) == ["id", "version", "name", "description", "rights", "properties"]
    assert list(shown["rights"][0]) == ["action", "resource", "tenantId", "participantProfileId", "cellId"]
    assert world.roles.get(role_id) == entity


def test_what_is_empty_is_left_out_but_for_lists(world: World) -> None:
    assert role(world, world.role("r")) == {"id": role_id_of(world, "r"), "version": 0, "name": "r", "rights": []}
    user_id = world.user("u")
    assert user(world, user_id) == {"id": user_id, "version": 0, "subject": "u", "roleIds": [], "rights": []}


def role_id_of(world: World, name: str) -> str:
    (found,) = json.loads(world.roles.select(f"name = '{name}'", ALL).json)
    return str(found["id"])


def test_a_right_that_is_given_twice_is_kept_once(world: World) -> None:
    role_id = world.role("r", rights=[EVERYTHING, BOUNDED, EVERYTHING | {"cellId": ""}])
    assert role(world, role_id)["rights"] == [EVERYTHING, BOUNDED]


@pytest.mark.parametrize(
    ("right", "where"),
    [
        ({"action": "read"}, "resource"),
        ({"resource": "vpa"}, "action"),
        ({"action": "READ", "resource": "vpa"}, "action"),
        ({"action": "own", "resource": "vpa"}, "action"),
        ({"action": "read", "resource": "connector"}, "resource"),
        ({"action": "read", "resource": "vpa", "tenantId": "acme"}, "tenantId"),
        ({"action": "read", "resource": "vpa", "vpaId": ABSENT.replace("0", "A")}, "vpaId"),
        ({"action": "read", "resource": "role", "tenantId": ABSENT}, ""),
        ({"action": "read", "resource": "tenant", "cellId": ABSENT}, ""),
        ({"action": "read", "resource": "tenant", "participantProfileId": ABSENT}, ""),
        ({"action": "read", "resource": "participantProfile", "vpaId": ABSENT}, ""),
        ({"action": "read", "resource": "orchestrationDefinition", "vpaId": ABSENT}, ""),
    ],
)
def test_a_right_that_allows_nothing_is_malformed(right: dict[str, str], where: str) -> None:
    with pytest.raises(Malformed) as caught:
        NewRole.model_validate({"name": "r", "rights": [EVERYTHING, right]})
    (error,) = caught.value.errors()
    assert error["loc"] == ("rights", 1, where) if where else ("rights", 1)


@pytest.mark.parametrize("kind", ["tenant", "participantProfile", "vpa", "orchestration", "*"])
def test_what_belongs_to_a_tenant_can_be_bounded_by_one(kind: str) -> None:
    right = RightDocument.model_validate({"action": "read", "resource": kind, "tenantId": ABSENT}).right
    assert (right.resource.value, right.tenant_id) == (kind, ABSENT)


def test_lists_have_an_end() -> None:
    rights = [{"action": "read", "resource": "vpa", "vpaId": str(uuid.uuid4())} for _ in range(MOST + 1)]
    assert len(NewRole.model_validate({"name": "r", "rights": rights[:-1]}).rights) == MOST
    with pytest.raises(Malformed):
        NewRole.model_validate({"name": "r", "rights": rights})
    with pytest.raises(Malformed):
        NewUser.model_validate({"subject": "u", "roleIds": [ABSENT] * (MOST_ROLES + 1)})


@pytest.mark.parametrize("text", ["", "  ", "x" * 2001])
def test_names_and_subjects_are_neither_empty_nor_endless(text: str) -> None:
    for make, name in ((NewRole, "name"), (RoleDiff, "name"), (NewUser, "subject"), (UserDiff, "subject")):
        with pytest.raises(Malformed):
            make.model_validate({name: text})


def test_names_of_roles_are_unique(world: World) -> None:
    first, second = world.role("r"), world.role("s")
    for attempt in (
        lambda: world.role("r"),
        lambda: world.roles.put(ABSENT, NewRole(name="r")),
        lambda: world.roles.put(second, NewRole(name="r")),
        lambda: world.roles.change(second, RoleDiff(name="r")),
    ):
        with pytest.raises(ConflictError, match="a role with this name exists already"):
            attempt()
    assert world.roles.change(first, RoleDiff(name="r")).version == 1
    world.roles.delete(first)
    world.role("r")


def test_subjects_of_users_are_unique(world: World) -> None:
    world.user("u")
    second = world.user("v")
    for attempt in (
        lambda: world.user("u"),
        lambda: world.users.put(ABSENT, NewUser(subject="u")),
        lambda: world.users.put(second, NewUser(subject="u")),
        lambda: world.users.change(second, UserDiff(subject="u")),
    ):
        with pytest.raises(ConflictError, match="a user with this subject exists already"):
            attempt()


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_what_is_not_there_is_not_found(world: World, unknown: str) -> None:
    known_user, known_role = world.user("u"), world.role("r")
    attempts: list[Callable[[], object]] = [
        lambda: world.roles.get(unknown),
        lambda: world.roles.change(unknown, RoleDiff()),
        lambda: world.roles.delete(unknown),
        lambda: world.users.get(unknown),
        lambda: world.users.change(unknown, UserDiff()),
        lambda: world.users.delete(unknown),
        lambda: world.users.assign(unknown, known_role),
        lambda: world.users.assign(known_user, unknown),
        lambda: world.users.withdraw(unknown, known_role),
    ]
    for attempt in attempts:
        with pytest.raises(NotFoundError):
            attempt()
    assert user(world, known_user)["version"] == 0


def test_a_diff_changes_what_it_names_and_nothing_else(world: World) -> None:
    role_id = world.role("r", description="d", rights=[EVERYTHING], properties={"a": 1, "b": 2})
    before = world.roles.get(role_id)
    assert world.roles.change(role_id, RoleDiff()) == before
    diff = RoleDiff.model_validate({"name": "s", "properties": {"b": None, "c": 3}, "removed": ["a", "c"]})
    changed = {"id": role_id, "version": 1, "name": "s", "description": "d", "rights": [EVERYTHING]}
    assert json.loads(world.roles.change(role_id, diff).text) == changed | {"properties": {"b": None}}
    emptied = world.roles.change(role_id, RoleDiff(description="", rights=[], removed=["b"]))
    assert json.loads(emptied.text) == {"id": role_id, "version": 2, "name": "s", "rights": []}


def test_a_users_diff_gives_roles_and_rights_as_a_whole(world: World) -> None:
    first, second = world.role("r"), world.role("s")
    user_id = world.user("u", name="Ann", roleIds=[first], rights=[ONE_VPA], properties={"a": 1})
    before = world.users.get(user_id)
    assert world.users.change(user_id, UserDiff()) == before
    changed = world.users.change(user_id, UserDiff.model_validate({"roleIds": [second], "rights": [BOUNDED]}))
    assert json.loads(changed.text) == {
        "id": user_id,
        "version": 1,
        "subject": "u",
        "name": "Ann",
        "roleIds": [second],
        "rights": [BOUNDED],
        "properties": {"a": 1},
    }
    assert list(json.loads(changed.text)) == ["id", "version", "subject", "name", "roleIds", "rights", "properties"]
    emptied = world.users.change(user_id, UserDiff(subject="v", name="", role_ids=[], rights=[], removed=["a"]))
    assert json.loads(emptied.text) == {"id": user_id, "version": 2, "subject": "v", "roleIds": [], "rights": []}


def test_put_creates_then_replaces(world: World) -> None:
    assert world.roles.put(ABSENT, NewRole(name="r"))[0] is True
    is_new, entity = world.roles.put(ABSENT, NewRole(name="s", description="d"))
    assert (is_new, json.loads(entity.text)) == (
        False,
        {"id": ABSENT, "version": 1, "name": "s", "description": "d", "rights": []},
    )
    assert world.users.put(ABSENT, NewUser(subject="u", role_ids=[ABSENT]))[0] is True
    is_new, entity = world.users.put(ABSENT, NewUser(subject="u"))
    assert (is_new, json.loads(entity.text)) == (
        False,
        {"id": ABSENT, "version": 1, "subject": "u", "roleIds": [], "rights": []},
    )
    with pytest.raises(ValidationError, match="is not a UUID"):
        world.roles.put("r", NewRole(name="x"))
    with pytest.raises(ValidationError, match="is not a UUID"):
        world.users.put("u", NewUser(subject="x"))


def test_a_role_is_assigned_and_withdrawn_once(world: World) -> None:
    roles = sorted([world.role("r"), world.role("s")])
    user_id = world.user("u")
    world.users.assign(user_id, roles[1])
    assigned = world.users.assign(user_id, roles[0])
    assert (user(world, user_id)["roleIds"], assigned.version) == (roles, 2)
    assert world.users.assign(user_id, roles[0]) == assigned == world.users.get(user_id)
    withdrawn = world.users.withdraw(user_id, roles[1])
    assert (json.loads(withdrawn.text)["roleIds"], withdrawn.version) == ([roles[0]], 3)
    for gone in (roles[1], *UNKNOWN):
        assert world.users.withdraw(user_id, gone) == withdrawn


@pytest.mark.parametrize("unknown", [ABSENT, "no-uuid"])
def test_a_user_cannot_have_a_role_that_is_not_there(world: World, unknown: str) -> None:
    known = world.role("r")
    user_id = world.user("u")
    attempts: list[Callable[[], object]] = [
        lambda: world.user("v", roleIds=[known, unknown]),
        lambda: world.users.put(ABSENT, NewUser(subject="v", role_ids=[unknown])),
        lambda: world.users.change(user_id, UserDiff(role_ids=[known, unknown])),
    ]
    for attempt in attempts:
        with pytest.raises(RefusedError, match=f"there is no role '{unknown}'") as caught:
            attempt()
        assert [error.pointer for error in caught.value.errors] == ["/roleIds"]
    assert user(world, user_id) == {"id": user_id, "version": 0, "subject": "u", "roleIds": [], "rights": []}


def test_a_user_has_a_limited_number_of_roles(world: World) -> None:
    roles = [world.role(f"r{n}") for n in range(MOST_ROLES + 1)]
    user_id = world.user("u", roleIds=roles[:-1])
    with pytest.raises(RefusedError, match=f"user {user_id} has {MOST_ROLES} roles, and can have no more"):
        world.users.assign(user_id, roles[-1])
    assert world.users.assign(user_id, roles[0]).version == 0
    world.users.withdraw(user_id, roles[0])
    assert len(json.loads(world.users.assign(user_id, roles[-1]).text)["roleIds"]) == MOST_ROLES


def test_a_role_that_users_have_cannot_be_deleted(world: World) -> None:
    role_id = world.role("r")
    users = sorted(world.user(f"u{n}", roleIds=[role_id, role_id]) for n in range(12))
    with pytest.raises(ConflictError, match=f"role {role_id} is in use by user {users[0]}") as caught:
        world.roles.delete(role_id)
    assert caught.value.context == {"usedBy": [{"kind": "user", "id": one} for one in users[:10]]}
    for one in users[:11]:
        world.users.delete(one)
    world.users.withdraw(users[11], role_id)
    world.roles.delete(role_id)
    assert user(world, users[11])["roleIds"] == []


def test_changes_are_for_a_version(world: World) -> None:
    role_id, other = world.role("r"), world.role("s")
    user_id = world.user("u", roleIds=[role_id])
    stale, absent = Expected(frozenset({7}), exists=True), Expected(exists=False)
    attempts: list[Callable[[], object]] = [
        lambda: world.roles.change(role_id, RoleDiff(), stale),
        lambda: world.roles.change(role_id, RoleDiff(name="x"), stale),
        lambda: world.roles.put(role_id, NewRole(name="x"), stale),
        lambda: world.roles.put(role_id, NewRole(name="x"), absent),
        lambda: world.roles.put(ABSENT, NewRole(name="x"), stale),
        lambda: world.roles.delete(role_id, stale),
        lambda: world.users.change(user_id, UserDiff(), stale),
        lambda: world.users.change(user_id, UserDiff(name="x"), stale),
        lambda: world.users.put(user_id, NewUser(subject="x"), stale),
        lambda: world.users.put(user_id, NewUser(subject="x"), absent),
        lambda: world.users.put(ABSENT, NewUser(subject="x"), stale),
        lambda: world.users.delete(user_id, stale),
        lambda: world.users.assign(user_id, other, stale),
        lambda: world.users.assign(user_id, role_id, stale),
        lambda: world.users.withdraw(user_id, role_id, stale),
    ]
    for attempt in attempts:
        with pytest.raises(PreconditionFailedError):
            attempt()
    current = Expected(frozenset({0, 5}), exists=True)
    assert world.users.assign(user_id, other, current).version == 1
    world.roles.change(other, RoleDiff(name="x"), current)
    world.users.delete(user_id, Expected(frozenset({1})))
    world.roles.delete(role_id, current)


def test_users_and_roles_are_found_by_what_they_have(world: World) -> None:
    first, second = world.role("r", rights=[BOUNDED]), world.role("s", rights=[EVERYTHING], description="d")
    ann = world.user("ann", name="Ann", roleIds=[first, second], properties={"team": ["a", "b"]})
    bob = world.user("bob", roleIds=[second], rights=[ONE_VPA, EVERYTHING])

    def users(predicate: str) -> set[str]:
        return {one["id"] for one in json.loads(world.users.select(predicate, ALL).json)}

    def roles(predicate: str) -> set[str]:
        return {one["id"] for one in json.loads(world.roles.select(predicate, ALL).json)}

    assert users(f"roleIds = '{first}'") == {ann}
    assert users(f"roleIds = '{second}'") == {ann, bob}
    assert users(f"roleIds = '{ABSENT}'") == set()
    assert users("subject = 'bob'") == {bob}
    assert users("name = 'Ann'") == {ann}
    assert users("properties.team = 'b'") == {ann}
    assert users("rights.action = 'read' AND rights.resource = '*'") == {bob}
    assert users(f"id = '{ann}' AND version = 0") == {ann}
    assert roles("rights.tenantId = '00000000-0000-4000-8000-000000000001'") == {first}
    assert roles("rights.action = '*'") == {second}
    assert roles("description = 'd'") == {second}
    page = world.users.select("true", Page(limit=1))
    assert ([one["id"] for one in json.loads(page.json)], page.total) == ([min(ann, bob)], 2)
    following = world.users.select("true", Page(after=page.last))
    assert [one["id"] for one in json.loads(following.json)] == [max(ann, bob)]
    for select in (world.users.select, world.roles.select):
        with pytest.raises(ValidationError, match="there is no field 'password'"):
            select("password = 'x'", ALL)
        with pytest.raises(ValidationError, match="Invalid after"):
            select("true", Page(after="x"))


def test_assignments_at_once_all_last(world: World) -> None:
    roles = sorted(world.role(f"r{n}") for n in range(16))
    user_id = world.user("u")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda role_id: world.users.assign(user_id, role_id), roles))
    assert (user(world, user_id)["roleIds"], user(world, user_id)["version"]) == (roles, 16)


def test_a_role_is_assigned_or_deleted_never_both(world: World) -> None:
    def outcome(work: Callable[[], object]) -> str:
        try:
            work()
        except (ConflictError, NotFoundError, RefusedError) as error:
            return type(error).__name__
        return "done"

    for number in range(20):
        role_id, user_id = world.role(f"r{number}"), world.user(f"u{number}")
        works: list[Callable[[], object]] = [
            functools.partial(world.users.assign, user_id, role_id),
            functools.partial(world.roles.delete, role_id),
        ]
        with ThreadPoolExecutor(2) as pool:
            assigned, deleted = pool.map(outcome, works if number % 2 else works[::-1])
            if number % 2 == 0:
                assigned, deleted = deleted, assigned
        assert (assigned, deleted) in {("done", "ConflictError"), ("NotFoundError", "done")}
        assert user(world, user_id)["roleIds"] == ([role_id] if assigned == "done" else [])


def story(world: World, dice: random.Random) -> list[str]:
    """What a world answers to random requests for a few users and roles."""
    ids = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(4)]
    rights = [EVERYTHING, BOUNDED, ONE_VPA]
    told = []
    for _ in range(150):
        one, other = dice.choice(ids), dice.choice(ids)
        chosen, some = dice.sample(rights, dice.randint(0, 3)), dice.sample(ids, dice.randint(0, 2))
        name, number = dice.choice("abcdef"), dice.randrange(9)
        role_document = {"name": name, "rights": chosen, "properties": {"n": number}}
        user_document = {"subject": name, "roleIds": some, "rights": chosen, "name": str(number)}
        changes = {key: user_document[key] for key in dice.sample(list(user_document), dice.randint(0, 4))}
        steps: list[Callable[[], object]] = [
            functools.partial(world.roles.put, one, NewRole.model_validate(role_document)),
            functools.partial(world.users.put, one, NewUser.model_validate(user_document)),
            functools.partial(world.users.change, one, UserDiff.model_validate(changes)),
            functools.partial(world.roles.change, one, RoleDiff.model_validate({"rights": chosen})),
            functools.partial(world.users.assign, one, other),
            functools.partial(world.users.withdraw, one, other),
            functools.partial(world.users.delete, one),
            functools.partial(world.roles.delete, one),
        ]
        try:
            outcome = str(dice.choice(steps)())
        except CfmError as error:
            outcome = f"{type(error).__name__} {error} {getattr(error, 'context', '')}"
        told += [outcome, *(listed.select("true", ALL).json.decode() for listed in (world.users, world.roles))]
    # Postgres writes a space behind colons and commas of what is free in form.
    return [text.replace('": ', '":').replace(", ", ",") for text in told]


def test_both_stores_tell_the_same_stories_of_users(worlds: tuple[World, World]) -> None:
    for seed in range(3):
        in_one, in_other = (story(world, random.Random(seed)) for world in worlds)
        assert in_one == in_other
