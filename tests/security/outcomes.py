"""Ends and results of activities that nobody has asked for, or asked somebody else for."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from cfm_core.contracts import subjects
from cfm_core.eventing.cloudevents import BATCH
from tests.security.attack import Attack
from tests.security.events import HISTORY, MANIFEST, event, opened, to
from tests.security.ground import BASE, Ground
from tests.security.wire import Answer

Document = dict[str, Any]

NOT_GIVEN = "the token was not given away with the activity's last dispatch"
SUPERSEDED = "nobody waits for this attempt any more"
COMPLETE = "/orchestrations/waiting/activities/sign/complete"
HEARTBEAT = "/orchestrations/sent/activities/sign/heartbeat"


def ending(name: str, path: str, body: Callable[[Ground], object], status: int, says: str, query: str = "") -> Attack:
    """What somebody outside says of an activity, with nothing but its token."""

    def send(ground: Ground) -> Answer:
        raw = json.dumps(body(ground)).encode()
        return ground.api.request("POST", BASE + path + query, [("Content-Type", "application/json")], raw)

    return Attack(f"{path.rpartition('/')[2]}, {name}: {path}"[:150], send, status, says)


def always(value: object) -> Callable[[Ground], object]:
    return lambda _: value


def good(ground: Ground) -> object:
    """What does end the activity."""
    return ground.completion_token("waiting", "sign")


def showing(token: Callable[[Ground], object], **more: object) -> Callable[[Ground], object]:
    """A document with a token and nothing to say, but for ``more``."""
    return lambda ground: {"token": token(ground), **more}


def endings() -> Iterator[Attack]:
    """Completion tokens: forged, of others, and replayed."""
    tokens: dict[str, Callable[[Ground], str]] = {
        "forged": lambda _: "A" * 43,
        "half of it": lambda ground: ground.completion_token("waiting", "sign")[:20],
        "it and more": lambda ground: ground.completion_token("waiting", "sign") + "A",
        "it padded": lambda ground: ground.completion_token("waiting", "sign") + "=",
        "it in capital letters": lambda ground: ground.completion_token("waiting", "sign").upper(),
        "it with a space": lambda ground: " " + ground.completion_token("waiting", "sign"),
        "of another run": lambda ground: ground.completion_token("sent", "sign"),
        "of a run that has ended": lambda ground: ground.completion_token("ended", "sign"),
        "of another activity": lambda ground: ground.completion_token("waiting", "other"),
        "of another phase": lambda ground: ground.completion_key.token(
            "waiting", 1, "sign", ground.dispatches["waiting"]
        ),
        "of another dispatch": lambda ground: ground.completion_key.token("waiting", 0, "sign", str(uuid.uuid4())),
        "of a run whose name begins alike": lambda ground: ground.completion_key.token(
            "waiting2", 0, "sign", ground.dispatches["waiting"]
        ),
        "the dispatch's own": lambda ground: ground.dispatches["waiting"],
        "the dispatch's own in capital letters": lambda ground: ground.dispatches["waiting"].upper(),
        "the key": lambda ground: ground.completion_key.key,
        "the API's": lambda ground: ground.good,
        "an event function's": lambda ground: ground.event_token("record_activity_results"),
        "SQL": lambda _: "' OR '1'='1",
        "beyond ASCII": lambda _: "\u00e9" * 43,
        "a letter": lambda _: "A",
        "very long": lambda _: "A" * 500_000,
    }
    for name, token in tokens.items():
        yield ending(f"token {name}", COMPLETE, showing(token), 403, NOT_GIVEN)
        if "dispatch's own" not in name:
            yield ending(f"token {name}", HEARTBEAT, showing(token), 409, SUPERSEDED)
    values: tuple[object, ...] = (None, 1, True, [], {}, [["A"]], "")
    for value in values:
        for path in (COMPLETE, HEARTBEAT):
            yield ending(f"token {value!r}", path, showing(always(value)), 400, "/token")
    for path in (COMPLETE, HEARTBEAT):
        yield ending("no token", path, lambda _: {}, 400, "/token")
        yield ending("a token in the query", path, lambda _: {}, 400, "/token", query="?token=x")
    for name, path in {
        "no such run": "/orchestrations/nobody/activities/sign/complete",
        "a NUL in the run": "/orchestrations/%00/activities/sign/complete",
        "SQL in the run": "/orchestrations/'%20OR%20'1'='1/activities/sign/complete",
        "no such activity": "/orchestrations/waiting/activities/other/complete",
        "a NUL in the activity": "/orchestrations/waiting/activities/%00/complete",
    }.items():
        yield ending(name, path, showing(good), 404, "Not found")
    other = "/orchestrations/sent/activities/sign/complete"
    yield ending("the token of another run", other, showing(good), 403, NOT_GIVEN)
    ended = "/orchestrations/ended/activities/sign"
    replayed = showing(lambda ground: ground.completion_token("ended", "sign"), error="and yet it failed")
    yield ending("replayed with another end", f"{ended}/complete", replayed, 409, "the activity")
    late = showing(lambda ground: ground.dispatches["ended"])
    yield ending("of one that has ended", f"{ended}/heartbeat", late, 409, SUPERSEDED)
    for field, given, says in (
        ("values", {"a": "\0"}, "contains a NUL character"),
        ("outputs", [], "/outputs"),
        ("values", "x", "/values"),
        ("error", 1, "/error"),
    ):
        yield ending(f"{field} {given!r}", COMPLETE, showing(good, **{field: given}), 400, says)


def results() -> Iterator[Attack]:
    """Outcomes with the trigger's token, and with no dispatch that has asked for them."""
    function = "record_activity_results"

    def told(run: str, token: Callable[[Ground], object] | None = None, **changes: object) -> Callable[[Ground], bytes]:
        def make(ground: Ground) -> bytes:
            shown = ground.dispatches[run] if token is None else token(ground)
            outcome = {"orchestrationId": run, "phase": 0, "ord": 0, "token": shown, **changes}
            return json.dumps([event(outcome)]).encode()

        return make

    for kind in ("complete", "fatal", "retry", "wait", "schedule"):
        for name, body in {
            "a forged token": told("sent", always("00000000-0000-4000-8000-000000000000"), kind=kind),
            "no token": told("sent", always(""), kind=kind),
            "a token that is none": told("sent", always("' OR '1'='1"), kind=kind),
            "the token of another run": told("sent", lambda ground: ground.dispatches["waiting"], kind=kind),
            "the completion token": told("sent", lambda ground: ground.completion_token("sent", "sign"), kind=kind),
            "nobody's run": told("sent", kind=kind, orchestrationId="nobody"),
            "another place": told("sent", kind=kind, ord=1),
            "another phase": told("sent", kind=kind, phase=1),
            "a second time": told("ended", kind=kind),
        }.items():
            name = f"{kind}, {name}"
            yield to(name, function, 200, "{", shown=opened(function), body=body, kind=BATCH, noted=HISTORY)


def repeated() -> Iterator[Attack]:
    """Events that have come before, and such as contradict what is known."""
    known: dict[str, tuple[str, Document]] = {
        "a manifest again": ("start_orchestrations", MANIFEST | {"id": "waiting"}),
        "a manifest again, for something else": (
            "start_orchestrations",
            MANIFEST | {"id": "waiting", "orchestrationType": "ground.nobody", "payload": {"stolen": True}},
        ),
        "a response to nothing": (
            "apply_orchestration_responses",
            {
                "id": "r",
                "manifestId": "nobody",
                "correlationId": str(uuid.UUID(int=7)),
                "success": True,
                "orchestrationType": "cfm.orchestration.vpa.deploy",
            },
        ),
        "a response with no id of ours": (
            "apply_orchestration_responses",
            {
                "id": "r",
                "manifestId": "'; --",
                "correlationId": "' OR '1'='1",
                "success": False,
                "orchestrationType": "cfm.orchestration.vpa.dispose",
            },
        ),
        "a call of nobody": ("look_after_calls", {"orchestrationId": "nobody", "phase": 0, "ord": 0}),
        "a call that is none": ("look_after_calls", {"orchestrationId": "waiting", "phase": 0, "ord": 0}),
        "a dead letter again": (
            "keep_dead_letters",
            {"key": "k", "subject": "event.x", "target": "t", "reason": "r", "deliveries": 1, "event": {}},
        ),
    }
    published = {"keep_dead_letters": subjects.dead_letter("event.x")}
    for name, (function, data) in known.items():
        body = json.dumps([event(data, subject=published.get(function, "s"))]).encode()
        yield to(name, function, 200, "{", shown=opened(function), body=body, kind=BATCH)
    announced = {"activityType": "ground.registrar", "timeout": 1, "maxAttempts": 1, "backoff": 1, "backoffLimit": 1}
    for subject in (subjects.announcement("ground.nobody"), subjects.ACTIVITY_TYPES, subjects.RESULTS, ""):
        yield to(
            f"an announcement of another's type on {subject or 'no subject'}",
            "register_activity_types",
            200,
            "nobody announces activity type ground.registrar",
            shown=opened("register_activity_types"),
            body=json.dumps([event(announced, subject=subject)]).encode(),
            kind=BATCH,
        )
    response = {"id": "r", "manifestId": "forged", "success": True, "orchestrationType": "cfm.orchestration.vpa.deploy"}
    yield Attack(
        "event, a response to another manifest for a profile that there is",
        lambda ground: ground.deliver(
            "apply_orchestration_responses", response | {"correlationId": ground.ids["participant-profiles"]}
        ),
        204,
    )


def attacks() -> Iterator[Attack]:
    yield from endings()
    yield from results()
    yield from repeated()
