"""The stand-in vault's tokens: what they allow, and how long they hold.

Source: dataspace service contracts, section 10.2.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_LIFE = 768 * 3600
_DURATION = re.compile(r"(\d+)(s|m|h|)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(slots=True)
class Token:
    """``expires_at`` and ``ends_at``, beyond which no renewal gets it, are in seconds of the clock; None: it holds for ever."""

    text: str
    policies: tuple[str, ...]
    aliases: Mapping[str, str]
    lifetime: int
    expires_at: float | None
    ends_at: float


class Tokens:
    """The tokens that hold now.

    Args:
        root: may do everything, for ever.
        clock: monotonic seconds.
    """

    def __init__(self, root: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens = {root: Token(root, ("root",), {}, 0, None, 0)}

    def __iter__(self) -> Any:
        return iter(self._tokens)

    def issue(self, policies: Iterable[str], aliases: Mapping[str, str], lifetime: int, longest: int) -> Token:
        """Make a token; a lifetime of 0 stands for the longest."""
        now = self._clock()
        longest = min(longest or LONGEST_LIFE, LONGEST_LIFE)
        lifetime = min(lifetime or longest, longest)
        token = Token(
            f"s.{secrets.token_urlsafe(18)}",
            tuple(sorted({"default", *policies})),
            dict(aliases),
            lifetime,
            now + lifetime,
            now + longest,
        )
        self._tokens[token.text] = token
        return token

    def find(self, text: str) -> Token | None:
        """The token of this text, if it holds now."""
        token = self._tokens.get(text)
        if token is not None and token.expires_at is not None and token.expires_at <= self._clock():
            del self._tokens[text]
            return None
        return token

    def renew(self, token: Token, increment: int) -> int:
        """Let a token hold for ``increment`` seconds from now, 0 for as long as at first; gives the seconds that it holds."""
        now = self._clock()
        token.expires_at = min(now + (increment or token.lifetime), token.ends_at)
        return max(int(token.expires_at - now), 0)

    def revoke(self, text: str) -> bool:
        """End a token at once; False where there is no such token."""
        return self._tokens.pop(text, None) is not None


def seconds(duration: Any) -> int:
    """A duration as the vault takes it: a number of seconds, or a text such as ``90s`` or ``1h``.

    Raises:
        ValueError: it is none.
    """
    if isinstance(duration, int) and not isinstance(duration, bool) and duration >= 0:
        return duration
    found = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if found is None:
        raise ValueError(f"{duration!r} is no duration")
    return int(found[1]) * _SECONDS[found[2]]
