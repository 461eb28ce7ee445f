"""What is shown in place of secrets. Data should hold references to secrets alone; what looks like one itself is not shown.

A key is that of a secret if an activity type marks it in one of its schemas (``"writeOnly": true``, or ``"format":
"password"``), or if ``password``, ``passphrase``, ``pwd``, ``secret``, ``token``, ``apiKey``, ``accessKey`` or ``privateKey``
are whole words of it: in ``clientSecret``, ``client-secret`` and ``db.password``, not in ``tokenizer``. Its value is shown as
``***``, unless it is a reference (``vault:...``), or tells nothing: null, true, false, or empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from cfm_core.contracts.secrets import REFERENCE
from cfm_core.entities import array_of, json_of
from cfm_core.json_schema import pointer_to
from cfm_core.query import JsonPage

MASK = "***"

_NAMES = (
    *(("password",), ("passphrase",), ("pwd",), ("secret",), ("token",)),
    *(("api", "key"), ("access", "key"), ("private", "key")),
)
_PLURALS = ("", "s")
_SINGLE = frozenset("".join(name) + plural for name in _NAMES for plural in _PLURALS)
_PAIRS = frozenset(
    (name[0] + one, name[1] + other) for name in _NAMES if len(name) > 1 for one in _PLURALS for other in _PLURALS
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_SAYS = re.compile(
    r"""(?<![\w.-])(?P<key>[A-Za-z][\w.-]*+)(?P<says>\\?["']?\s*[:=]\s*\\?["']|\\?["']?[:=](?=\S)|\\?["']?:\s+)"""
)
"""``"key": "``, ``key = '``, ``key=``, ``key:`` or ``key: ``."""
_QUOTED = re.compile(r"""(?:[^"'\\]|\\[^"'])*""")
_BARE = re.compile(r"""[^\s"',;&)}\]]+""")
_LAST = re.compile(r"""[^\s"',;)}\]]+(?=\s*(?:[,;)}\]\n]|$))""")
"""After ``key: `` there may be a sentence; a secret is a single word."""
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}")
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:(?=-----END)|\Z)", re.DOTALL)

Marked = Collection[str]
"""The keys that activity types mark as those of secrets."""


def marked_keys(schema: Any) -> Iterator[str]:
    """The names of the properties that a JSON Schema marks as secret, at any depth."""
    if isinstance(schema, Mapping):
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            yield from (name for name, one in properties.items() if _is_marked(one))
        for part in schema.values():
            yield from marked_keys(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from marked_keys(part)


def is_secret(key: str, marked: Marked = ()) -> bool:
    """Whether the value of ``key`` is not to be shown."""
    if key in marked:
        return True
    words = [word.lower() for word in _WORD.findall(key)]
    return not _SINGLE.isdisjoint(words) or not _PAIRS.isdisjoint(pairwise(words))


def masked(value: Any, marked: Marked = ()) -> Any:
    """A JSON value as it is shown: its keys stay, and whatever is no secret."""
    try:
        if isinstance(value, Mapping):
            return {
                key: MASK if _hides(one) and is_secret(key, marked) else masked(one, marked)
                for key, one in value.items()
            }
        if isinstance(value, list):
            return [masked(one, marked) for one in value]
    except RecursionError:
        # Nobody has looked into it.
        return MASK
    return masked_text(value, marked) if isinstance(value, str) else value


def masked_text(text: str, marked: Marked = ()) -> str:
    """A text as it is shown, such as the reason of a failure: without what it says to be a secret."""
    shown, at = [], 0
    for found in _SAYS.finditer(text):
        if found.start() < at or not is_secret(found["key"], marked):
            continue
        value = _value_after(found, text)
        if value is None or not value[0] or value[0].startswith(REFERENCE):
            continue
        shown += [text[at : value.start()], MASK]
        at = value.end()
    text = "".join([*shown, text[at:]])
    return _BEARER.sub(rf"\1 {MASK}", _PRIVATE_KEY.sub(rf"\1{MASK}", text))


def masked_json(text: str, marked: Marked = ()) -> str:
    """A JSON document as it is shown; as it is where it has no secrets."""
    before = json.loads(text)
    after = masked(before, marked)
    if after == before:
        return text
    return array_of(after) if isinstance(after, list) else json_of(after)


def masked_page(page: JsonPage, marked: Marked = ()) -> JsonPage:
    """A page as it is shown."""
    return replace(page, json=masked_json(page.json.decode(), marked).encode())


def masked_pointer(value: Any, marked: Marked = ()) -> str | None:
    """The JSON pointer of a mask where a secret belongs: what was shown has been sent back. None if there is none."""
    parts: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        for key, one in value.items():
            if one == MASK and is_secret(key, marked):
                return pointer_to(key)
            parts.append((key, one))
    elif isinstance(value, list):
        parts = [(str(place), one) for place, one in enumerate(value)]
    for step, one in parts:
        if (found := masked_pointer(one, marked)) is not None:
            return pointer_to(step) + found
    return None


def _value_after(found: re.Match[str], text: str) -> re.Match[str] | None:
    says = found["says"]
    if says.endswith(('"', "'")):
        return _QUOTED.match(text, found.end())
    if not says[-1].isspace():
        return _BARE.match(text, found.end())
    # What is behind a JSON pointer is said of the value.
    return None if text.endswith("/", 0, found.start()) else _LAST.match(text, found.end())


def _is_marked(schema: Any) -> bool:
    return isinstance(schema, Mapping) and (schema.get("writeOnly") is True or schema.get("format") == "password")


def _hides(value: Any) -> bool:
    """Whether a value tells anything that is no reference."""
    if value is None or isinstance(value, bool):
        return False
    if isinstance(value, str):
        return value != "" and not value.startswith(REFERENCE)
    return isinstance(value, int | float) or len(value) > 0
