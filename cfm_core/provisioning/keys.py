"""What the Provision Manager's entities are known by: types and ids, any texts that callers have chosen."""

from __future__ import annotations

import re

from cfm_core.errors import FieldError, NotFoundError, ValidationError
from cfm_core.query.page import Page

_NUMBER = re.compile("[0-9]{1,18}")


def check_known(kind: str, key: str) -> None:
    """Raises NotFoundError for a key that no store could hold, so that nothing has it."""
    if "\0" in key:
        raise NotFoundError(kind, key)


def check_after(page: Page) -> None:
    """Raises ValidationError for a page behind a key that no store could hold."""
    if "\0" in page.after:
        raise ValidationError("Invalid after: it contains a NUL character", [FieldError("/after", "no NUL character")])


def check_place(page: Page) -> None:
    """Raises ValidationError for a page of what is numbered that begins behind something that is no number."""
    if page.after and not _NUMBER.fullmatch(page.after):
        raise ValidationError("Invalid after: not an id of this list", [FieldError("/after", "must be a number")])


def check_same(field: str, given: str, key: str) -> None:
    """Raises ValidationError for a document whose ``field`` is not the key that the path names; empty, it is no matter."""
    if given not in ("", key):
        detail = f"must be {key!r}, as in the path, or absent"
        raise ValidationError(f"Invalid payload: /{field}: {detail}", [FieldError(f"/{field}", detail)])
