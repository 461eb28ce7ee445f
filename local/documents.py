"""Definitions in files: what a file holds, and where the API takes it."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def documents_in(file: Path) -> Iterator[tuple[str, Any]]:
    """The documents of a file, each with its place.

    Raises:
        OSError, ValueError, RecursionError: it cannot be read, or is no JSON.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, list):
        yield f"{file}#", content
        return
    for place, document in enumerate(content):
        yield f"{file}#/{place}", document


def places_of(documents: Iterable[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each document has to be put below the API's base, in the order in which that can be done.

    Raises:
        ValueError: a document is neither an activity definition nor a template with an id.
    """
    templates = []
    for document in documents:
        if not isinstance(document, dict):
            raise ValueError(f"a definition is an object, not {json.dumps(document)[:60]}")
        name = document.get("id" if "activities" in document else "type")
        if not isinstance(name, str) or not name:
            raise ValueError(
                'a template needs an "id" to be put under'
                if "activities" in document
                else 'a document has neither "activities" nor a "type"'
            )
        path = urllib.parse.quote(name, safe="")
        if "activities" in document:
            templates.append((f"/orchestration-definitions/{path}", document))
        else:
            yield f"/activity-definitions/{path}", document
    yield from templates
