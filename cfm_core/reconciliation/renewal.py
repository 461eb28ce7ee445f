"""Requests credentials anew before they end.

Source: dataspace service contracts, sections 6.3 to 6.5, 7.2 and 11.6.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from cfm_core.clients.edc import TornDownError
from cfm_core.clients.identity_hub import CredentialSpec, HeldCredential, IdentityHub, RequestState
from cfm_core.clients.issuer_service import IssuerService
from cfm_core.clients.tenant_manager import NeededCredential, ParticipantRecord, TenantManager
from cfm_core.clock import Clock, system_clock
from cfm_core.errors import CfmError, RecoverableError
from cfm_core.reconciliation.credentials import Renewal, held_for, needed, renewal_of

MOST_REQUESTS = 50
"""A round asks for no more credentials than these: an issuer has others to serve."""
MOST_UNANSWERED = 3

_REFUSED = frozenset({RequestState.ERROR, RequestState.REJECTED})
_TAKEN_BACK = frozenset({"revoked", "suspended"})

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Renewed:
    """What a round did."""

    participants: int = 0
    requested: int = 0
    dropped: int = 0
    """Expired credentials that the participant holds no more, since it has their successors."""


class Renewals:
    """Looks at the credentials of participants, and asks for those anew that end soon.

    Safe to share between threads, and to have in several processes: each attempt has an id that follows from the credential.

    Args:
        before: how long before a credential's end; None: when a third of its life is left.
    """

    def __init__(
        self,
        tenants: TenantManager,
        identity_hub: IdentityHub,
        issuer: IssuerService,
        *,
        before: timedelta | None,
        clock: Clock = system_clock,
    ) -> None:
        self._tenants = tenants
        self._identity_hub = identity_hub
        self._issuer = issuer
        self._before = before
        self._clock = clock

    def renew(self, participants: Iterable[ParticipantRecord], within: timedelta) -> Renewed:
        """Look at one participant after another for so long. Safe to repeat.

        Raises:
            RecoverableError: something went wrong with some of them; the others were looked at. A service that does not
                answer several times in a row ends the round.
        """
        ends = time.monotonic() + within.total_seconds()
        by_dataspace = self._tenants.needed_credentials()
        done = Renewed()
        failed: list[str] = []
        unanswered = 0
        for record in participants:
            if time.monotonic() >= ends or done.requested >= MOST_REQUESTS:
                break
            if record.context is None:
                continue
            done.participants += 1
            try:
                self._renew(record, record.context, by_dataspace, done)
                unanswered = 0
            except TornDownError as gone:
                log.debug("participant profile %s: %s", record.id, gone)
            except CfmError as error:
                failed.append(f"{record.id}: {error}")
                # One participant's trouble is not a service's; that of several in a row is.
                unanswered = unanswered + 1 if isinstance(error, RecoverableError) else 0
                if unanswered == MOST_UNANSWERED:
                    break
        log.log(
            logging.INFO if done.requested or done.dropped else logging.DEBUG,
            "looked at the credentials of %d participants: requested %d anew",
            done.participants,
            done.requested,
            extra={"participants": done.participants, "requested": done.requested, "dropped": done.dropped},
        )
        if failed:
            raise RecoverableError(f"the credentials of {len(failed)} participants were not looked at: {failed[0]}")
        return done

    def _renew(
        self,
        record: ParticipantRecord,
        context: str,
        by_dataspace: Mapping[str, Sequence[NeededCredential]],
        done: Renewed,
    ) -> None:
        all_needed = needed(record, by_dataspace)
        held = self._identity_hub.credentials(context) if all_needed else []
        now = self._clock()
        for need in all_needed:
            found = held_for(need, all_needed, held)
            if not found:
                continue  # never issued, or taken away: that is told by the report, and for somebody to decide
            newest, *older = found
            renewal = renewal_of(newest, self._before)
            if renewal is not None and self._ask(record, context, need, renewal):
                done.requested += 1
            if newest.expires_at is None or newest.expires_at > now:
                done.dropped += self._drop(context, [one for one in older if one.expires_at and one.expires_at <= now])

    def _ask(self, record: ParticipantRecord, context: str, need: NeededCredential, renewal: Renewal) -> bool:
        """Ask for a credential's successor, if nobody has asked yet; whether that was done now."""
        now = self._clock()
        attempt = renewal.attempt(now)
        if attempt < 0:
            return False
        for earlier in renewal.awaited(now):
            state = self._identity_hub.request_state(context, renewal.request_id(record.left, earlier))
            if state is None:
                continue
            if state not in _REFUSED or earlier == attempt:
                # On its way, or here since we looked; or refused, and it is not time for the next attempt.
                return False
            break
        if not self._may_ask(record, context, renewal.credential):
            return False
        request_id = renewal.request_id(record.left, attempt)
        self._identity_hub.request_credentials(
            context, need.issuer_did, request_id, [CredentialSpec(need.id, need.type, need.format)]
        )
        log.info(
            "requested the %s of %s anew, which ends at %s",
            need.type,
            record.did,
            renewal.ends_at.isoformat(),
            extra={
                "participant_profile": record.id,
                "participant_context": context,
                "credential": renewal.credential.id,
                "holder_pid": request_id,
                "attempt": attempt,
            },
        )
        return True

    def _may_ask(self, record: ParticipantRecord, context: str, credential: HeldCredential) -> bool:
        """Whether the participant is still to have it: looked at as late as can be, since a disposal revokes what it finds."""
        status = self._issuer.status_of(context, holder_did=record.did, credential_id=credential.credential_id)
        if status in _TAKEN_BACK:
            log.debug("credential %s is %s, and not requested anew", credential.id, status)
            return False
        now = self._tenants.find_participant(record.tenant_id, record.id)
        return now is not None and now.is_active and now.context == context

    def _drop(self, context: str, expired: Sequence[HeldCredential]) -> int:
        # The IdentityHub shows only so many of them; what is expired must not hide what holds.
        for one in expired:
            self._identity_hub.delete_credential(context, one.id)
        return len(expired)
