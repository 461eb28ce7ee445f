"""What an agent has brought about, in a form in which two runs can be compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from cfm_core.json_schema import pointer_to
from local.agent.wire import Call

MADE_BY_SERVICE = "(made by the service)"

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"
_MADE_UP = re.compile(f"{_UUID}|{_INSTANT}", re.IGNORECASE)
_MILLISECONDS = range(1_500_000_000_000, 4_000_000_000_000)
"""Numbers that can be nothing but an instant of these decades."""


class Origin:
    """Tells the ids and instants that an agent has made up from those that the services have.

    The agent's count: they are to be the same in each run. Those of a service are different by nature, so ``blurred`` makes
    all of them the same.
    """

    def __init__(self, calls: Iterable[Call]) -> None:
        self._agents: set[str] = set()
        self._given: set[str] = set()
        known: set[str] = set()
        sent: set[str] = set()
        for call in calls:
            sent.update(call.path.split("/"), _leaves(_document(call.body)))
            self._given |= set(_given_by(call)) - sent
            said = set(_MADE_UP.findall(f"{call.path}?{call.query} {call.body.decode(errors='replace')}"))
            self._agents |= said - known
            known |= said
            known |= set(_MADE_UP.findall(f"{call.location} {call.answer.decode(errors='replace')}"))

    def recorded(self, document: Mapping[str, Any]) -> Any:
        """A blurred copy of what an activity has recorded, which may be an id of any form that a service has given it."""
        return self.blurred(
            {
                key: MADE_BY_SERVICE if isinstance(value, str | int) and str(value) in self._given else value
                for key, value in document.items()
            }
        )

    def blurred(self, document: Any) -> Any:
        """A copy of a JSON document; lists of objects are in a fixed order, since a service's order means nothing."""
        match document:
            case dict():
                named = [(self._text(key), self.blurred(value)) for key, value in document.items()]
                if any(key == MADE_BY_SERVICE for key, _ in named):
                    return self.blurred([value for _, value in named])
                return dict(named)
            case list():
                items = [self.blurred(item) for item in document]
                return sorted(items, key=json.dumps) if any(isinstance(item, dict) for item in items) else items
            case str():
                return self._text(document)
            case int() if document in _MILLISECONDS:
                return MADE_BY_SERVICE
        return document

    def _text(self, text: str) -> str:
        return _MADE_UP.sub(lambda found: found[0] if found[0] in self._agents else MADE_BY_SERVICE, text)


def _given_by(call: Call) -> Iterator[str]:
    """The ids of what a call has made, as its answer gives them."""
    document = _document(call.answer)
    if isinstance(document, dict) and isinstance(document.get("id"), str | int):
        yield str(document["id"])
    if call.location:
        yield urlsplit(call.location).path.rpartition("/")[2]


def _leaves(document: Any) -> Iterator[str]:
    match document:
        case dict():
            for value in document.values():
                yield from _leaves(value)
        case list():
            for item in document:
                yield from _leaves(item)
        case _:
            yield str(document)


def without_counts(document: Any) -> Any:
    """What stand-ins hold, without how often the vault was told something: to write the same again does no harm.

    Source: dataspace service contracts, section 10.3.
    """
    match document:
        case dict():
            return {
                key: without_counts(value)
                for key, value in document.items()
                if not (key == "versions" and isinstance(value, int))
            }
        case list():
            return [without_counts(item) for item in document]
    return document


def without_remains(state: Mapping[str, Any]) -> Any:
    """What stand-ins hold, without what stays of something that was undone.

    The control plane cannot delete a configuration, only empty it; an issuer keeps revoked credentials, and who asked.
    """
    return _without_remains(state)


def _without_remains(document: Any) -> Any:
    match document:
        case dict():
            kept = {key: _without_remains(value) for key, value in document.items() if key != "issuanceProcesses"}
            return {key: value for key, value in kept.items() if not _remains(value)}
        case list():
            return [_without_remains(item) for item in document if not _remains(item)]
    return document


def _remains(entry: Any) -> bool:
    return isinstance(entry, dict) and (
        entry.get("status") == "revoked" or entry == {"entries": {}, "privateEntries": {}}
    )


def of_requests(calls: Iterable[Call]) -> dict[str, list[Any]]:
    """What successful requests have made of a service, as far as they tell: what was written and not deleted since.

    A PUT or PATCH counts once for its path, with its last body. Each POST counts, unless its ``Idempotency-Key`` was there
    before. A DELETE takes away what stands at its path and below, and what a POST made there: its answer's ``Location``
    says so, or the path ends with a value of its body or answer.
    """
    made: list[Call] = []
    for call in calls:
        if call.method in _READS or not 200 <= call.status < 300:
            continue
        if call.method == "DELETE":
            made = [one for one in made if not _is_at(one, call.path)]
        elif call.method != "POST":
            made = [one for one in made if (one.method, one.path) != (call.method, call.path)]
            made.append(call)
        elif not call.idempotency_key or not any(
            (one.method, one.path, one.idempotency_key) == (call.method, call.path, call.idempotency_key)
            for one in made
        ):
            made.append(call)
    found: dict[str, list[Any]] = {}
    for call in made:
        found.setdefault(str(call), []).append(_document(call.body))
    return found


def _is_at(call: Call, path: str) -> bool:
    def below(one: str) -> bool:
        return one == path or one.startswith(path.rstrip("/") + "/")

    if below(call.path) or (call.location and below(urlsplit(call.location).path)):
        return True
    parent, _, name = path.rpartition("/")
    return (
        call.method == "POST" and call.path.rstrip("/") == parent and name in {*_words(call.body), *_words(call.answer)}
    )


def _words(body: bytes) -> Iterator[str]:
    document = _document(body)
    if isinstance(document, dict):
        yield from (str(value) for value in document.values() if isinstance(value, str | int))


def _document(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode(errors="replace")


def differences(found: Any, expected: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Where two JSON documents differ: a JSON pointer, and in words what is there and what was expected."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted({*found, *expected}):
            here = place + pointer_to(key)
            if key not in found:
                yield here, f"missing; expected {_shown(expected[key])}"
            elif key not in expected:
                yield here, f"not expected, and there is {_shown(found[key])}"
            else:
                yield from differences(found[key], expected[key], here)
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from differences(one, other, place + pointer_to(index))
    elif isinstance(found, list) and isinstance(expected, list):
        yield place, f"{len(found)} instead of {len(expected)}: {_shown(found)} instead of {_shown(expected)}"
    elif found != expected:
        yield place, f"{_shown(found)} instead of {_shown(expected)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:119] + "…"
