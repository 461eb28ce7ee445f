"""Events of somebody who is not the trigger, and events of the trigger's that are none."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from cfm_core.contracts import event_tokens
from cfm_core.eventing.cloudevents import BATCH, STRUCTURED
from tests.security.attack import Attack
from tests.security.bodies import unfit
from tests.security.ground import EVENTS, Ground
from tests.security.wire import Answer, Headers

REFUSED = "this function takes events of the trigger only"
MANIFEST = {"id": "forged", "correlationId": "c", "orchestrationType": "ground.sign", "payload": {}}
HISTORY = frozenset({"provision_manager.history"})


def event(data: object, **attributes: object) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "e", "source": "s", "type": "t", "data": data} | attributes


def to(
    name: str,
    function: str,
    status: int,
    says: str = "",
    *,
    shown: Callable[[Ground], Headers],
    body: Callable[[Ground], bytes] | bytes,
    kind: str = BATCH,
    method: str = "POST",
    path: str = "",
    noted: frozenset[str] = frozenset(),
) -> Attack:
    """What is sent to an event function, where the trigger sends its events."""

    def send(ground: Ground) -> Answer:
        raw = body if isinstance(body, bytes) else body(ground)
        headers = [("Content-Type", kind), *shown(ground)]
        return ground.at(function).request(method, path or f"/{function}", headers, raw)

    return Attack(f"event, {function}, {name}", send, status, says, noted)


def bearing(make: Callable[[Ground], str]) -> Callable[[Ground], Headers]:
    return lambda ground: [("Authorization", f"Bearer {make(ground)}")]


def opened(function: str) -> Callable[[Ground], Headers]:
    """What the trigger shows."""
    return bearing(lambda ground: ground.event_token(function))


def nothing(_: Ground) -> Headers:
    return []


def of_another_key(_: Ground, function: str) -> str:
    return event_tokens.derived("a-key-of-somebody-else", function)


def as_basic(token: Callable[[Ground], str]) -> Callable[[Ground], Headers]:
    """A token as the password of somebody."""
    return lambda ground: [("Authorization", "Basic " + base64.b64encode(f"trigger:{token(ground)}".encode()).decode())]


def forged() -> Iterator[Attack]:
    """Every event function, for whoever has no token of it."""
    body = json.dumps([event(MANIFEST)]).encode()
    names = [one.name for one in EVENTS]
    for function, neighbour in zip(names, [*names[1:], names[0]], strict=True):
        token = partial(Ground.event_token, function=function)
        for name, shown in {
            "no token": nothing,
            "an empty token": bearing(lambda _: ""),
            "another function's token": opened(neighbour),
            "a token of another key": bearing(partial(of_another_key, function=function)),
            "its token as Basic": as_basic(token),
            "the API's token": bearing(lambda ground: ground.good),
        }.items():
            yield to(name, function, 401, REFUSED, shown=shown, body=body)


SPELLINGS: dict[str, Callable[[str], Headers]] = {
    "the token alone": lambda token: [("Authorization", token)],
    "another case of the scheme": lambda token: [("Authorization", f"bearer {token}")],
    "two spaces": lambda token: [("Authorization", f"Bearer  {token}")],
    "half of the token": lambda token: [("Authorization", f"Bearer {token[:20]}")],
    "the token and more": lambda token: [("Authorization", f"Bearer {token}A")],
    "the token in capital letters": lambda token: [("Authorization", f"Bearer {token.upper()}")],
    "the token padded": lambda token: [("Authorization", f"Bearer {token}=")],
    "the token twice": lambda token: [("Authorization", f"Bearer {token},Bearer {token}")],
    "two headers, the token last": lambda token: [("Authorization", "Bearer x"), ("Authorization", f"Bearer {token}")],
    "two headers, the token first": lambda token: [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")],
    "letters beyond ASCII": lambda token: [("Authorization", f"Bearer {token}\xe9")],
    "in another header": lambda token: [("X-Authorization", f"Bearer {token}")],
    "in a cookie": lambda token: [("Cookie", f"Authorization=Bearer {token}")],
    "in the event's headers": lambda token: [("ce-authorization", f"Bearer {token}")],
    "very long": lambda _: [("Authorization", "Bearer " + "A" * 60_000)],
}


def spelt(spelling: Callable[[str], Headers], function: str) -> Callable[[Ground], Headers]:
    return lambda ground: spelling(ground.event_token(function))


def in_query(query: str, function: str, body: bytes) -> Callable[[Ground], Answer]:
    def send(ground: Ground) -> Answer:
        target = f"/{function}?" + query.format(ground.event_token(function))
        return ground.at(function).request("POST", target, [("Content-Type", BATCH)], body)

    return send


def spelled() -> Iterator[Attack]:
    """One function's token, shown as it is not to be shown."""
    function = "start_orchestrations"
    body = json.dumps([event(MANIFEST)]).encode()
    for name, spelling in SPELLINGS.items():
        yield to(name, function, 401, REFUSED, shown=spelt(spelling, function), body=body)
    yield to("the key itself", function, 401, REFUSED, shown=bearing(lambda ground: ground.event_key), body=body)
    completion = bearing(lambda ground: ground.completion_token("waiting", "sign"))
    yield to("a completion token", function, 401, REFUSED, shown=completion, body=body)
    for name, query in {"as token": "token={}", "as Authorization": "Authorization=Bearer%20{}"}.items():
        yield Attack(f"event, a token in the query {name}", in_query(query, function, body), 401, REFUSED)
    for name, path, method, status in (
        ("a GET", "", "GET", 405),
        ("a HEAD", "", "HEAD", 405),
        ("a PUT", "", "PUT", 405),
        ("a DELETE", "", "DELETE", 405),
        ("no such function", "/stop_orchestrations", "POST", 404),
        ("a path behind it", "/start_orchestrations/x", "POST", 404),
        ("a step up", "/x/../start_orchestrations", "POST", 404),
        ("two slashes", "//start_orchestrations", "POST", 404),
        ("capital letters", "/START_ORCHESTRATIONS", "POST", 404),
        ("a NUL", "/start_orchestrations%00", "POST", 404),
        ("a route of the API", "/api/v1alpha1/tenants", "GET", 404),
        ("a function of an agent", "/jwtlet_activity", "POST", 404),
        ("the root", "/", "POST", 404),
    ):
        yield to(name, function, status, shown=opened(function), body=body, path=path, method=method)


NO_EVENTS: dict[str, tuple[str, bytes, str]] = {
    "nothing": (BATCH, b"", "the batch is not JSON"),
    "half a batch": (BATCH, b"[{", "the batch is not JSON"),
    "no batch": (BATCH, b"{}", "a batch of CloudEvents is a JSON array"),
    "a batch of a number": (BATCH, b"[5]", "item 0 of the batch is not a CloudEvent"),
    "a batch of nothing known": (BATCH, b"[null]", "item 0 of the batch is not a CloudEvent"),
    "a batch with one that has no id": (
        BATCH,
        json.dumps([event(MANIFEST), {"source": "s", "type": "t"}]).encode(),
        "item 1 of the batch is not a CloudEvent",
    ),
    "a batch with an empty id": (BATCH, json.dumps([event(MANIFEST, id="")]).encode(), "item 0 of the batch"),
    "a batch with a number as id": (BATCH, json.dumps([event(MANIFEST, id=1)]).encode(), "item 0 of the batch"),
    "a batch with a list as source": (BATCH, json.dumps([event(MANIFEST, source=[])]).encode(), "item 0 of the batch"),
    "a batch with no type": (BATCH, json.dumps([event(MANIFEST, type=None)]).encode(), "item 0 of the batch"),
    "a batch far too deep": (BATCH, b"[" * 200_000, "the batch is nested too deeply"),
    "a batch that is not UTF-8": (BATCH, b'[{"id": "\xff"}]', "the batch is not JSON"),
    "a batch of too many digits": (BATCH, b"[" + b"9" * 5000 + b"]", "the batch is not JSON"),
    "nothing structured": (STRUCTURED, b"", "not a CloudEvent"),
    "no structured event": (STRUCTURED, b"{}", "not a CloudEvent"),
    "a structured list": (STRUCTURED, b"[]", "not a CloudEvent"),
    "a structured text": (STRUCTURED, b'"x"', "not a CloudEvent"),
    "a structured number": (STRUCTURED, b"1", "not a CloudEvent"),
    "structured rubbish": (STRUCTURED, b"rubbish", "not a CloudEvent"),
    "a structured event far too deep": (STRUCTURED, b"[" * 200_000, "not a CloudEvent"),
    "a structured event that is not UTF-8": (STRUCTURED, b'{"id": "\xff"}', "not a CloudEvent"),
    "a structured event of no version": (
        STRUCTURED,
        json.dumps({"id": "e", "source": "s", "type": "t", "data": MANIFEST}).encode(),
        "not a CloudEvent",
    ),
    "a structured event of a later version": (
        STRUCTURED,
        json.dumps(event(MANIFEST, specversion="2.0")).encode(),
        "not a CloudEvent",
    ),
    "a structured event with a number as id": (
        STRUCTURED,
        json.dumps(event(MANIFEST, id=1)).encode(),
        "not a CloudEvent",
    ),
    "a structured event with a list as id": (
        STRUCTURED,
        json.dumps(event(MANIFEST, id=[])).encode(),
        "not a CloudEvent",
    ),
    "a structured event with an empty id": (
        STRUCTURED,
        json.dumps(event(MANIFEST, id="")).encode(),
        "not a CloudEvent",
    ),
    "a structured event with no source": (
        STRUCTURED,
        json.dumps(event(MANIFEST, source=None)).encode(),
        "not a CloudEvent",
    ),
    "a bare document": ("application/json", json.dumps(MANIFEST).encode(), "not a CloudEvent"),
    "a form": ("application/x-www-form-urlencoded", b"id=e&source=s", "not a CloudEvent"),
}


def also(headers: Headers, shown: Callable[[Ground], Headers]) -> Callable[[Ground], Headers]:
    return lambda ground: [*headers, *shown(ground)]


def malformed() -> Iterator[Attack]:
    """What the trigger itself would be refused."""
    function = "start_orchestrations"
    for name, (kind, body, says) in NO_EVENTS.items():
        yield to(name, function, 400, says, shown=opened(function), body=body, kind=kind)
    binary = {"ce-specversion": "1.0", "ce-id": "e", "ce-source": "s", "ce-type": "t"}
    bare = json.dumps(MANIFEST).encode()
    for missing in binary:
        left = [(name, value) for name, value in binary.items() if name != missing]
        name = f"a binary event without {missing}"
        yield to(
            name,
            function,
            400,
            "not a CloudEvent",
            shown=also(left, opened(function)),
            body=bare,
            kind="application/json",
        )
    seen: set[type] = set()
    for one in EVENTS:
        if one.data is None:
            continue
        opening = opened(one.name)
        unfit_data: dict[str, object] = {
            "no data": None,
            "data that is a list": [],
            "data that is a text": "x",
            "empty data": {},
        }
        for name, data in unfit_data.items():
            body = json.dumps(event(data)).encode()
            yield to(name, one.name, 422, "data: ", shown=opening, body=body, kind=STRUCTURED)
        # What is sent to agents has the same form for all of them.
        for number, (pointer, document) in enumerate(unfit(one.data) if one.data not in seen else ()):
            body = json.dumps(event(document)).encode()
            says = pointer[1:].replace("/", ".") + ": "
            name = f"{pointer} as in {number}"
            yield to(name, one.name, 422, says, shown=opening, body=body, kind=STRUCTURED)
        seen.add(one.data)


def attacks() -> Iterator[Attack]:
    yield from forged()
    yield from spelled()
    yield from malformed()
