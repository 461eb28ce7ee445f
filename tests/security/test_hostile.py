"""Hostile requests and events, one a row: each is refused as it has to be, and nothing is changed by it."""

from __future__ import annotations

import re
from itertools import chain

import pytest

from tests.security import bodies, events, identifiers, lists, outcomes, paths, servers, tokens
from tests.security.attack import Attack
from tests.security.ground import Ground
from tests.security.wire import Answer

ATTACKS = tuple(
    chain.from_iterable(one.attacks() for one in (tokens, paths, bodies, lists, identifiers, events, outcomes, servers))
)

LEAKS = re.compile(
    r"pydantic|pg8000|werkzeug|flask|granian|Traceback|SQLSTATE|SELECT |INSERT |UPDATE |relation \"|column \"|json\.|"
    r"site-packages|/tmp/|\.py\b"
)
INSTANCE = re.compile(r'"instance":"[^"]*"')


def test_there_are_many_and_each_is_another() -> None:
    assert len(ATTACKS) >= 500
    assert len({one.name for one in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_refused_and_changes_nothing(ground: Ground, attack: Attack) -> None:
    answer = attack.send(ground)
    before, ground.kept = ground.kept, ground.keeping.look()
    assert {name for name in ground.kept if ground.kept[name] != before[name]} <= attack.noted
    assert (answer.status, answer.text) == (attack.status, answer.text)
    assert attack.says in answer.text
    check(ground, answer)


def check(ground: Ground, answer: Answer) -> None:
    """An answer says why, and gives nothing away but the address that it was asked at."""
    told = INSTANCE.sub("", answer.text)
    assert not LEAKS.search(told)
    for secret in (ground.good, ground.event_key, ground.completion_token("waiting", "sign")):
        assert secret not in told
    if answer.headers.get("WWW-Authenticate"):
        assert answer.status in {401, 403}
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="cfm"')
    assert "X-Injected" not in answer.headers
    assert "Set-Cookie" not in answer.headers


def test_whoever_may_is_served_afterwards_and_what_was_there_is_there(ground: Ground) -> None:
    ground.settle()
    assert {one.name: one.restarts for one in ground.stack.processes if one.restarts} == {}
    tenant = ground.call("GET", f"/tenants/{ground.ids['tenants']}")
    assert tenant["properties"] == {"n": 1}
    changed = {name for name, told in ground.kept.items() if told != ground.at_first[name]}
    assert changed <= {table for attack in ATTACKS for table in attack.noted}
