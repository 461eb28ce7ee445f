"""Ids of the Tenant Manager's entities: UUIDs in lower case, made by us."""

from __future__ import annotations

import re

from cfm_core.errors import FieldError, ValidationError
from cfm_core.query.page import Page

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_id(text: str) -> bool:
    """Whether ``text`` can be an id; any other is known to belong to nothing."""
    return _UUID.fullmatch(text) is not None


def check_key(page: Page) -> None:
    """Raises ValidationError for a page behind something that cannot be an id."""
    if page.after and not is_id(page.after):
        raise ValidationError(f"Invalid after: {page.after!r} is not an id", [FieldError("/after", "must be an id")])


def check_chosen_id(text: str) -> None:
    """Raises ValidationError for an id that a caller has chosen and that cannot be one."""
    if not is_id(text):
        raise ValidationError(f"Bad request: the id {text!r} is not a UUID in lower case")
