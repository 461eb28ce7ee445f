"""Ids of the Tenant Manager's entities: UUIDs in lower case, made by us."""

from __future__ import annotations

import re

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_id(text: str) -> bool:
    """Whether ``text`` can be an id; any other is known to belong to nothing."""
    return _UUID.fullmatch(text) is not None
