"""Texts as a database can hold them."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator

LONGEST = 2000
"""The length of a text that is kept unique, in bytes of UTF-8: an index holds no longer one."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _short(text: str) -> str:
    if len(text.encode()) > LONGEST:
        raise ValueError(f"must have at most {LONGEST} bytes")
    return text


ShortText = Annotated[str, AfterValidator(_short)]


def _given(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


GivenText = Annotated[ShortText, AfterValidator(_given)]


def storable(value: Any) -> Any:
    """The JSON value with all that no database can hold replaced: NUL and half characters by U+FFFD, infinity by null."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        return _mended(value)
    # Whole characters beyond the first 65,536 are written with the same prefix; they are mended for nothing.
    return _mended(value) if "\\u0000" in text or "\\ud" in text else value


def _mended(value: Any) -> Any:
    match value:
        case str():
            return _UNSTORABLE.sub("\ufffd", value)
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {_mended(key): _mended(item) for key, item in value.items()}
        case list():
            return [_mended(item) for item in value]
    return value
