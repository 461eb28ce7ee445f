"""Instants as JSON shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, without trailing zeros."""
    at = at.astimezone(UTC)
    fraction = f".{at.microsecond:06}".rstrip("0") if at.microsecond else ""
    return f"{at.year:04}-{at:%m-%dT%H:%M:%S}{fraction}Z"
