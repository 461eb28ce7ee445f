"""Keeps what signs the participants' tokens in step with their keys at the IdentityHub.

Source: dataspace service contracts, section 11.8.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import zlib
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cfm_core.clients.control_plane import ControlPlane
from cfm_core.clients.edc import TornDownError
from cfm_core.clients.identity_hub import IdentityHub, KeyPair, KeyState
from cfm_core.clients.siglet import Siglet
from cfm_core.errors import CfmError, RecoverableError
from cfm_core.keys.signing import sign_with, signing_key

SHOWS_WITHIN = timedelta(seconds=10)
"""So long after an event it may be that the IdentityHub does not show yet what happened."""
LOOK_AGAIN_SECONDS = 0.5

_LOOKS = 4
_LOCKS = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What an event says of a participant's keys."""

    pair: str
    """The id of the key pair, or of its key; empty: all of them."""
    usable: bool
    """Whether it came into use, or went out of it."""
    at: datetime | None = None

    def shows_in(self, pairs: Iterable[KeyPair]) -> bool:
        """Whether ``pairs`` were read after the change."""
        concerned = [one for one in pairs if not self.pair or self.pair in (one.id, one.key_id)]
        if self.usable:
            return any(one.state is not KeyState.CREATED for one in concerned)
        return not any(one.state in (KeyState.CREATED, KeyState.ACTIVATED) for one in concerned)

    def is_fresh(self, now: datetime) -> bool:
        """Whether it happened this moment, as far as two clocks can tell."""
        return self.at is not None and abs(now - self.at) < SHOWS_WITHIN


class SigningKeys:
    """Looks at a participant's keys, and brings Siglet and the control plane to what it finds.

    It goes by what is and not by what is told, so that repeated, late and misplaced events do no harm. Safe to share between
    threads, and to have in several processes.

    Args:
        issuer_id: the issuer's own participant context, which has keys and is no participant.
        contexts: gives the participant contexts that there are.
        clock: gives the instant of now.
    """

    def __init__(
        self,
        identity_hub: IdentityHub,
        siglet: Siglet,
        control_plane: ControlPlane,
        *,
        issuer_id: str,
        contexts: Callable[[], Collection[str]],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._identity_hub = identity_hub
        self._siglet = siglet
        self._control_plane = control_plane
        self._issuer_id = issuer_id
        self._contexts = contexts
        self._clock = clock
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        # Where nobody remembers how far the last round came, each participant has the same chance to be in the next.
        self._looked_at = f"{random.getrandbits(128):032x}"

    def follow(self, context: str, change: KeyChange | None = None) -> None:
        """Let the participant's tokens be signed with its newest key that is in use, or with none where none is.

        Args:
            change: why one looks now, if there is a reason.

        Raises:
            RecoverableError: a service does not answer now, or does not show the change yet.
            FatalError: a service refuses.
        """
        if context == self._issuer_id:
            log.debug("the issuer's own keys are none of a participant")
            return
        with self._locks[zlib.crc32(context.encode()) % _LOCKS]:
            try:
                self._follow(context, change)
            except TornDownError as gone:
                if change is not None and change.is_fresh(self._clock()):
                    # The mapping may have been made this moment, and be seen by another replica only.
                    raise RecoverableError(str(gone), LOOK_AGAIN_SECONDS) from None
                log.debug("there is no such participant any more: %s", gone)

    def look_around(self, within: timedelta) -> None:
        """Follow the keys of one participant after another for so long; the next call goes on where this one ends.

        Events can be lost before anybody stores them. This finds what they would have told.

        Raises:
            RecoverableError: something went wrong with some of them; the others were looked at. A service that does not
                answer ends the round.
        """
        ends = time.monotonic() + within.total_seconds()
        failed: list[str] = []
        for context in self._next_contexts():
            if time.monotonic() >= ends:
                break
            self._looked_at = context
            try:
                self.follow(context)
            except CfmError as error:
                failed.append(f"{context}: {error}")
                if isinstance(error, RecoverableError):
                    break
        if failed:
            raise RecoverableError(f"the keys of {len(failed)} participants were not looked at: {failed[0]}")

    def _next_contexts(self) -> list[str]:
        contexts = sorted(self._contexts())
        start = bisect_right(contexts, self._looked_at)
        return contexts[start:] + contexts[:start]

    def _follow(self, context: str, change: KeyChange | None) -> None:
        pairs = self._identity_hub.key_pairs(context)
        if change is not None and not change.shows_in(pairs) and change.is_fresh(self._clock()):
            # The event may have been published before the transaction that it tells of was committed.
            raise RecoverableError(
                f"the IdentityHub does not show yet what happened to {change.pair or 'the keys'} of {context}",
                LOOK_AGAIN_SECONDS,
            )
        for _ in range(_LOOKS):
            key = signing_key(pairs)
            if not sign_with(self._siglet, self._control_plane, context, key):
                return
            # Whoever wrote last, here or in another process, looks whether that is still what it has to be.
            pairs = self._identity_hub.key_pairs(context)
            if signing_key(pairs) == key:
                return
        raise RecoverableError(f"the keys of {context} change while they are followed")
