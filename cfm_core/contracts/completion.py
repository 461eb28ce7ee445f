"""The token with which somebody outside ends an activity: derived from its dispatch, so that nobody has to store it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from cfm_core.errors import FatalError


@dataclass(frozen=True, slots=True)
class CompletionKey:
    """The key of a deployment: whoever tells agents where to, and who ends activities, are given the same."""

    key: str = field(default="", repr=False)
    reader: Callable[[], str] | None = field(default=None, repr=False)
    """Gives the key as it is now, where it may change."""

    def __bool__(self) -> bool:
        return bool(self.key)

    def token(self, orchestration_id: str, phase: int, activity_id: str, dispatch_token: str) -> str:
        """HMAC-SHA-256 over what names one dispatch of one activity, in 43 characters that need no quoting.

        Raises:
            FatalError: there is no key.
        """
        key = self.reader() if self.reader else self.key
        if not key:
            raise FatalError("CFM_COMPLETION_KEY must be set: without it nobody outside can end an activity")
        named = json.dumps([orchestration_id, phase, activity_id, dispatch_token]).encode()
        digest = hmac.new(key.encode(), named, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


NO_KEY = CompletionKey()
