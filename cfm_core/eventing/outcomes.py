"""Outcomes of dispatched activities: matched to their dispatches, and made by the trigger where an agent gave none."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from cfm_core import trace
from cfm_core.contracts import subjects
from cfm_core.contracts.reply import EventDict

OUTCOME_EVENT = "cfm.activity.outcome"
"""The same word as in ``contracts.activity``, whose models would cost this process pydantic."""
SOURCE = "cfm/trigger"

_KINDS = ("complete", "wait", "schedule", "retry", "fatal")
_KEY = ("orchestrationId", "phase", "ord", "token")
_SHAPES: tuple[tuple[str, type | tuple[type, ...]], ...] = (
    ("reason", str),
    ("values", dict),
    ("deleted", list),
    ("outputs", dict),
    ("after", (str, int, float)),
)
_QUOTED = 300


def token_of(dispatch: EventDict) -> str | None:
    """The token of a dispatched activity; None where the event is no proper dispatch."""
    data = dispatch.get("data")
    if not isinstance(data, dict) or not all(name in data for name in _KEY):
        return None
    return str(data["token"])


def matched(dispatches: Iterable[EventDict], answered: Iterable[EventDict]) -> dict[str, EventDict]:
    """Those of the ``answered`` events that are proper outcomes of one of the ``dispatches``, by token.

    Of two with one token the first counts.
    """
    by_token = {token: dispatch for dispatch in dispatches if (token := token_of(dispatch)) is not None}
    found: dict[str, EventDict] = {}
    for event in answered:
        token = token_of(event)
        if token in by_token and token not in found and _fits(event, by_token[token]):
            found[token] = event
    return found


def retry(dispatch: EventDict, reason: str) -> EventDict:
    """The outcome that says: this attempt failed, for the given reason.

    Args:
        dispatch: the dispatch itself, or an outcome of it.
    """
    data: dict[str, Any] = {name: dispatch["data"][name] for name in _KEY}
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": SOURCE,
        "type": OUTCOME_EVENT,
        "subject": subjects.RESULTS,
        "datacontenttype": "application/json",
        "data": data | {"kind": "retry", "reason": reason},
        **trace.of(dispatch),
    }


def quoted(body: bytes) -> str:
    """The beginning of an answer, for a reason that people read."""
    return body[: 4 * _QUOTED].decode("utf-8", "replace").strip()[:_QUOTED]


def _fits(event: EventDict, dispatch: EventDict) -> bool:
    data, asked = event["data"], dispatch["data"]
    return (
        all(isinstance(event.get(name), str) and event[name] for name in ("id", "source", "type"))
        and all(data[name] == asked[name] for name in _KEY)
        and data.get("kind") in _KINDS
        and all(data.get(name) is None or isinstance(data[name], kind) for name, kind in _SHAPES)
    )
