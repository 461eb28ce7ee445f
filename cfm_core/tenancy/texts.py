"""Texts that are kept unique, and therefore short enough for an index."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

LONGEST = 2000
"""In bytes of UTF-8."""


def _short(text: str) -> str:
    if len(text.encode()) > LONGEST:
        raise ValueError(f"must have at most {LONGEST} bytes")
    return text


ShortText = Annotated[str, AfterValidator(_short)]
