"""Timestamps in texts, as both stores read them; ``query.instant_of`` is the same in SQL."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(\.[0-9]+)?"
    r"(Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def instant_of(text: str) -> datetime | None:
    """Read an RFC 3339 timestamp; None for any other text. What is finer than a microsecond is cut off."""
    found = _RFC_3339.fullmatch(text)
    if found is None:
        return None
    seconds, fraction, offset = found.groups()
    try:
        return datetime.fromisoformat(seconds + (fraction or "")[:7] + offset).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def moment_of(text: str) -> datetime | None:
    """Read what a column of timestamps is compared with: without an offset it is in UTC, a date is its first moment."""
    if _DATE.fullmatch(text):
        text += "T00:00:00"
    return instant_of(text) or instant_of(text.replace(" ", "T", 1) + "Z")
