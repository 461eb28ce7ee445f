"""What Postgres would not take: so that it is refused with a reason, and by the stores in memory as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cfm_core.errors import ValidationError


def copy(document: Mapping[str, Any]) -> Any:
    """The document as it comes back out of a database."""
    return json.loads(json.dumps(document))


def is_storable(document: Any) -> bool:
    """Whether it is JSON without a NUL character, half a character, or an endless number."""
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError:
        return False
    return "\\u0000" not in text


def check_storable(document: Any) -> None:
    """Raises ValidationError for what is not storable."""
    if not is_storable(document):
        raise ValidationError("a text contains a NUL character or is not valid Unicode")
