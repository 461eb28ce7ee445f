"""Which credentials a participant needs, which of those that it holds counts, and when that one is requested anew.

Everything follows from our records, from what is held, and from the instant of now; nothing has to be remembered.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cfm_core.clients.identity_hub import HeldCredential
from cfm_core.clients.tenant_manager import NeededCredential, ParticipantRecord
from cfm_core.contracts.participant import CONTEXT_ID, HOLDER_PID

ATTEMPTS_AWAITED = 4
"""A request that has not come to an end while so many attempts were due is taken to be lost."""

_NAMESPACE = uuid.UUID("8f1d0c52-2a55-5e0b-9c3c-7be1f4d7a906")
_DOUBLINGS = 5
_PART_OF_LIFE = 3


def needed(
    record: ParticipantRecord, by_dataspace: Mapping[str, Sequence[NeededCredential]]
) -> tuple[NeededCredential, ...]:
    """What the participant has to hold, each once: what is for everybody, and what is for a role that it has."""
    return tuple(
        dict.fromkeys(
            NeededCredential(one.id, one.type, one.format, one.issuer_did)
            for name in record.dataspace_profile_ids
            for one in by_dataspace.get(name, ())
            if not one.role or one.role in record.roles.get(name, ())
        )
    )


def held_for(
    need: NeededCredential, all_needed: Iterable[NeededCredential], held: Iterable[HeldCredential]
) -> list[HeldCredential]:
    """What of ``held`` meets ``need``, the one that ends last in front.

    The format is looked at only where it tells two needs apart: services have several names for one.
    """
    alike = [one for one in all_needed if (one.issuer_did, one.type) == (need.issuer_did, need.type)]
    found = [
        one
        for one in held
        if one.issuer_did == need.issuer_did
        and need.type in one.types
        and (len(alike) == 1 or one.format == need.format)
    ]
    return sorted(
        found, key=lambda one: (one.expires_at is None, one.expires_at or one.issued_at, one.id), reverse=True
    )


@dataclass(frozen=True, slots=True)
class Renewal:
    """The time in which a credential is requested anew: from ``begins_at`` to its end, and longer where that was missed."""

    credential: HeldCredential
    begins_at: datetime
    ends_at: datetime

    def attempt(self, now: datetime) -> int:
        """Which attempt is the one of now; -1 before the first.

        The first begins with the renewal, the following after 1, 3, 7, 15 and 31 parts in 32 of its time, and after that one
        with each half of it.
        """
        parts = (now - self.begins_at) / (self.ends_at - self.begins_at) * 2**_DOUBLINGS
        if parts < 0:
            return -1
        last = 2**_DOUBLINGS - 1
        if parts < last:
            return int(math.log2(parts + 1))
        return _DOUBLINGS + int((parts - last) / 2 ** (_DOUBLINGS - 1))

    def is_late(self, now: datetime) -> bool:
        """Whether half of its time has passed."""
        return now >= self.begins_at + (self.ends_at - self.begins_at) / 2

    def awaited(self, now: datetime) -> range:
        """The attempts whose requests may still be on their way, the one of now in front."""
        last = self.attempt(now)
        return range(last, max(last - ATTEMPTS_AWAITED, -1), -1)

    def request_id(self, left: Mapping[str, Any], attempt: int) -> str:
        """The id under which this attempt asks, the same whoever makes it and however often.

        Args:
            left: what the participant's deployment has left.
        """
        first = left.get(HOLDER_PID) or left.get(CONTEXT_ID)
        return str(uuid.uuid5(_NAMESPACE, f"{first}/{self.credential.id}/{attempt}"))


def renewal_of(credential: HeldCredential, before: timedelta | None) -> Renewal | None:
    """When ``credential`` is requested anew; None where it never ends.

    Args:
        before: so long before its end, or for half of its life, if that is less; None: for a third of its life.
    """
    if credential.expires_at is None:
        return None
    life = max(credential.expires_at - credential.issued_at, timedelta(seconds=1))
    time = life / _PART_OF_LIFE if before is None else min(before, life / 2)
    return Renewal(credential, credential.expires_at - time, credential.expires_at)
