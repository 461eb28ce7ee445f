"""Values of a predicate as the types of columns: one rule for every store."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from cfm_core.query.fields import Kind
from cfm_core.query.tree import Scalar

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Comparable = str | int | bool | datetime


def as_kind(value: Scalar, kind: Kind) -> Comparable | None:
    """``value`` as a column of ``kind`` would hold it; None where such a column can never be equal to it."""
    match kind:
        case Kind.BOOLEAN:
            return value if isinstance(value, bool) else None
        case Kind.INTEGER:
            if isinstance(value, bool | str) or value != int(value) or not -(2**63) <= value < 2**63:
                return None
            return int(value)
        case Kind.TIMESTAMP:
            return _instant(value) if isinstance(value, str) else None
        case Kind.UUID:
            return value if isinstance(value, str) and _UUID.fullmatch(value) else None
        case Kind.TEXT:
            return value if isinstance(value, str) else None


def _instant(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        return instant.replace(tzinfo=instant.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        return None
