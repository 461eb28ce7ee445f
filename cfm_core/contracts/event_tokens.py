"""The tokens by which the trigger proves itself to functions: one for each function, good for no other.

A function is told its own tokens in a file, the trigger those of the functions that it calls, or a key that all follow from:

    {"start_orchestrations": ["q7f...", "x0d..."]}

Each of a function's tokens opens it, and the first is what a trigger shows. So a key is changed without a moment in which
events are refused: give the functions the tokens of the new key beside the old ones, then the trigger the new key, then take
the old tokens away.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

from cfm_core.errors import FatalError
from cfm_core.secret_file import SecretFile

SCHEME = "Bearer "
_LEAST_CHARACTERS = 16

Tokens = Mapping[str, tuple[str, ...]]


def derived(key: str, function: str) -> str:
    """The token of a function: HMAC-SHA-256 over its name, in 43 characters that need no quoting."""
    digest = hmac.digest(key.encode(), b"cfm event\n" + function.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def dump(keys: Iterable[str], functions: Iterable[str]) -> str:
    """The text of a file with the tokens that follow from ``keys`` for each function, in the keys' order."""
    keys = tuple(keys)
    return json.dumps({name: [derived(key, name) for key in keys] for name in functions}, indent=1)


def load(text: str) -> Tokens:
    """Read a file of tokens.

    Raises:
        FatalError: it is none; the message holds no token.
    """
    try:
        document = json.loads(text)
    except ValueError:
        raise FatalError("it is no JSON") from None
    if not isinstance(document, dict):
        raise FatalError("it must be an object with the tokens of each function")
    for name, tokens in document.items():
        if not isinstance(tokens, list) or not tokens or not all(map(_is_token, tokens)):
            raise FatalError(
                f"{name!r} must have an array of tokens of at least {_LEAST_CHARACTERS} visible ASCII characters"
            )
    return {name: tuple(tokens) for name, tokens in document.items()}


def key_in(text: str) -> str:
    """The key in the text of a key file.

    Raises:
        FatalError: there is none; the message does not quote.
    """
    key = text.strip()
    if not _is_token(key):
        raise FatalError(f"a key has at least {_LEAST_CHARACTERS} visible ASCII characters")
    return key


class Doorkeeper:
    """Knows who may call the functions of this process.

    Args:
        path: the file of tokens; empty: there is none.
        token: opens each of them, for a process that serves one; empty: there is none. Without either, everybody is let in.
    """

    def __init__(self, path: str, token: str = "") -> None:
        self._file = SecretFile(path, load) if path else None
        self._token = token

    def lets_in(self, function: str, authorization: str) -> bool:
        """Whether the value of an ``Authorization`` header opens ``function``.

        Raises:
            RecoverableError: the file cannot be read.
        """
        tokens = [self._token] if self._token else []
        if self._file is not None:
            tokens += self._file.read().get(function, ())
        elif not tokens:
            return True
        shown = authorization.encode(errors="replace")
        # All are compared, so that the time tells nothing.
        fits = [hmac.compare_digest(shown, f"{SCHEME}{one}".encode()) for one in tokens]
        return any(fits)


def authorizations(key_file: str, tokens_file: str) -> Callable[[str], str]:
    """Gives the ``Authorization`` header for a function by its name; empty where the trigger has nothing to show.

    Args:
        key_file: of the key that all tokens follow from; for a trigger that calls any function.
        tokens_file: of tokens; for a trigger that may call just these.
    """
    key = SecretFile(key_file, lambda text: cache(partial(derived, key_in(text)))) if key_file else None
    tokens = SecretFile(tokens_file, load) if tokens_file else None

    def shown(function: str) -> str:
        if key is not None:
            return SCHEME + key.read()(function)
        if tokens is not None and (known := tokens.read().get(function)):
            return SCHEME + known[0]
        return ""

    return shown


def _is_token(text: object) -> bool:
    return isinstance(text, str) and len(text) >= _LEAST_CHARACTERS and all("!" <= one <= "~" for one in text)
