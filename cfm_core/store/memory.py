"""One page of what is held in memory, as ``cfm_core.store.paging`` gives it of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cfm_core.entities import array_of
from cfm_core.query import Fields, JsonPage, Page, Predicate, to_test

Entity = TypeVar("Entity")


def page_of(
    entities: Mapping[Any, Entity],
    predicate: Predicate,
    fields: Fields,
    page: Page,
    stored: Callable[[Entity], Mapping[str, Any]],
    shown: Callable[[Entity], Mapping[str, Any]],
) -> JsonPage:
    """One page of ``entities``, by their keys.

    Args:
        stored: gives what a predicate may name of an entity.
        shown: gives an entity as the API shows it.
    """
    holds = to_test(predicate, fields)
    found = [(key, entity) for key, entity in sorted(entities.items()) if holds(stored(entity))]
    start = sum(key <= page.after for key, _ in found) if page.after else page.offset
    chosen = found[start : start + page.limit]
    return JsonPage(
        array_of(shown(entity) for _, entity in chosen).encode(),
        len(found) if page.counted else None,
        len(chosen),
        str(chosen[-1][0]) if chosen else "",
        start + len(chosen) < len(found),
    )
