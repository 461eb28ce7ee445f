"""Entities as texts: a store gives the JSON that the API shows, and nobody takes it apart on the way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

JsonText = str
"""One JSON document, or an array of them."""


@dataclass(frozen=True, slots=True)
class JsonEntity:
    """One entity as the API shows it, and its version, which the text may repeat."""

    version: int
    text: JsonText


def json_of(document: Mapping[str, Any]) -> JsonText:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def array_of(documents: Iterable[Mapping[str, Any]]) -> JsonText:
    return f"[{','.join(map(json_of, documents))}]"
