"""Instants as the API reads and shows them: RFC 3339 with an offset on the way in, in UTC on the way out."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator

ZERO = datetime(1, 1, 1, tzinfo=UTC)
"""What an absent timestamp reads as."""

_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def read_instant(value: Any) -> datetime:
    """Read a timestamp; what is finer than a microsecond is cut off.

    Raises:
        ValueError: it is not RFC 3339, or outside the years 1 to 9999.
    """
    found = _RFC_3339.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be an RFC 3339 timestamp such as 2026-11-23T07:07:23Z")
    seconds, fraction, offset = found.groups()
    try:
        return datetime.fromisoformat(seconds + (fraction or "")[:7] + offset).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("there is no such instant") from None


@lru_cache(maxsize=256)  # what is written together has one time
def shown_instant(at: datetime) -> str:
    at = at.astimezone(UTC)
    fraction = f".{at.microsecond:06}".rstrip("0") if at.microsecond else ""
    return f"{at.year:04}-{at:%m-%dT%H:%M:%S}{fraction}Z"


Instant = Annotated[datetime, BeforeValidator(read_instant)]
