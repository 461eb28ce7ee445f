"""What a round looks at where it cannot look at everything: a part that follows from the instant of now.

Nobody has to remember how far the last round came, and rounds in several processes need not know of each other.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cfm_core.clients.tenant_manager import PAGE, ParticipantRecord, TenantManager

T = TypeVar("T")

_GOLDEN_RATIO = 0x9E3779B97F4A7C15F39CC0605CEDC834
"""Of 2**128: its multiples fall everywhere alike, the next one always into a large gap between those before."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def round_number(now: datetime, every: timedelta) -> int:
    """The number of the round of ``now``."""
    return (now - _EPOCH) // every


def participants_of(
    tenants: TenantManager, predicate: str, number: int, most: int = PAGE
) -> Iterator[ParticipantRecord]:
    """So many of the participants that ``predicate`` holds for, in the order of their ids from a place on that differs.

    However many there are, and however many come and go, none has its turn half as often as the average, or waits for
    more than four times as many rounds.
    """
    start = str(uuid.UUID(int=number * _GOLDEN_RATIO % 2**128))
    found = tenants.participants(predicate, after=start, limit=most)
    yield from found
    if len(found) < most:
        for one in tenants.participants(predicate, limit=most - len(found)):
            if one.id > start:
                return
            yield one


def pages_of(
    fetch: Callable[[int, int], Sequence[T]], number: int | None, size: int, most: int = 40
) -> Iterator[tuple[int, Sequence[T]]]:
    """Pages of a list with the offset of each: all, or where there are more than ``most`` of them, so many.

    Args:
        fetch: gives entries by offset and limit.
        number: of the round; consecutive rounds come through the whole list. None: all pages, however many.
    """
    first, last = 0, most
    if number is not None:
        parts = 1
        while fetch(parts * most * size, 1):
            parts *= 2
        first = number % parts * most
        last = first + most
    page = first
    while number is None or page < last:
        found = fetch(page * size, size)
        if found:
            yield page * size, found
        if len(found) < size:
            return
        page += 1
