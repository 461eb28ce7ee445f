"""What an active participant should have in the services, and has not.

Source: dataspace service contracts, sections 3.2, 5.2, 6.2, 6.5, 6.6, 7.1, 8.1 and 11.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta

from cfm_core.clients.control_plane import ControlPlane
from cfm_core.clients.identity_hub import MOST_HELD, IdentityHub
from cfm_core.clients.issuer_service import IssuerService
from cfm_core.clients.siglet import Siglet
from cfm_core.clients.tenant_manager import NeededCredential, ParticipantRecord
from cfm_core.clock import Clock
from cfm_core.reconciliation.credentials import Renewal, held_for, needed, renewal_of
from cfm_core.reconciliation.findings import Finding, Service

DATA_PLANE_VPA, TRANSFER_TYPES = "cfm.dataplane", "transferTypeMappings"


class Expectations:
    """Holds the services against what the standard orchestration gives a participant. Changes nothing.

    Args:
        accounts: who has a mapping at jwtlet for each participant; the agents' own is the first.
        before: see ``Renewals``.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        identity_hub: IdentityHub,
        issuer: IssuerService,
        siglet: Siglet,
        *,
        accounts: Sequence[str],
        before: timedelta | None,
        clock: Clock,
    ) -> None:
        self._control_plane = control_plane
        self._identity_hub = identity_hub
        self._issuer = issuer
        self._siglet = siglet
        self._accounts = accounts
        self._before = before
        self._clock = clock

    def missing(
        self,
        record: ParticipantRecord,
        clients_by_context: Mapping[str, Collection[str]],
        by_dataspace: Mapping[str, Sequence[NeededCredential]],
    ) -> list[Finding]:
        """What the participant lacks.

        Args:
            clients_by_context: who has a mapping at jwtlet for which participant context.
            by_dataspace: the credentials that each dataspace profile asks for.

        Raises:
            RecoverableError: a service does not answer now.
            FatalError: a service refuses.
        """
        context = record.context

        def lacks(service: Service, what: str, detail: str = "") -> Finding:
            return Finding(
                service=service,
                what=what,
                detail=detail,
                participant_context=context or "",
                did=record.did,
                participant_profile=record.id,
                tenant=record.tenant_id,
            )

        if context is None:
            return [lacks(Service.RECORDS, "participantContextId", "its deployment has left none")]
        mapped = clients_by_context.get(context, ())
        found = [lacks(Service.JWTLET, f"mapping of {account}") for account in self._accounts if account not in mapped]
        if self._accounts[0] not in mapped:
            return found  # nobody gives a token to look further with
        identity = self._control_plane.find_identity(context)
        if identity is None:
            found.append(lacks(Service.CONTROL_PLANE, "participant context"))
        elif identity != record.did:
            found.append(lacks(Service.CONTROL_PLANE, "participant context", f"it is there for {identity}"))
        if not self._issuer.find_holders(context, did=record.did):
            found.append(lacks(Service.ISSUER_SERVICE, "holder"))
        wants_data_plane = any(vpa.type == DATA_PLANE_VPA and vpa.properties.get(TRANSFER_TYPES) for vpa in record.vpas)
        if wants_data_plane and self._siglet.find_transfer_types(context) is None:
            found.append(lacks(Service.SIGLET, "transfer types"))
        return [*found, *self._at_the_hub(record, context, needed(record, by_dataspace), lacks)]

    def _at_the_hub(
        self,
        record: ParticipantRecord,
        context: str,
        all_needed: Sequence[NeededCredential],
        lacks: Callable[..., Finding],
    ) -> Iterator[Finding]:
        hub = Service.IDENTITY_HUB
        participant = self._identity_hub.find_participant(context)
        if participant is None:
            yield lacks(hub, "participant")
            return
        if participant.did != record.did:
            yield lacks(hub, "participant", f"it is there for {participant.did}")
        if not participant.active:
            # Active is who has a published DID document.
            yield lacks(hub, "published DID document")
        if not self._identity_hub.has_active_key(context):
            yield lacks(hub, "active key")
        held = self._identity_hub.credentials(context) if all_needed else []
        now = self._clock()
        if len(held) >= MOST_HELD:
            yield lacks(hub, "view of all credentials", f"it shows no more than {MOST_HELD}")
        for need in all_needed:
            matching = held_for(need, all_needed, held)
            if not matching:
                yield lacks(hub, need.type)
                continue
            renewal = renewal_of(matching[0], self._before)
            if renewal is not None and renewal.ends_at <= now:
                yield lacks(
                    hub, need.type, f"expired at {renewal.ends_at.isoformat()}{self._why(record, context, renewal)}"
                )
            elif renewal is not None and renewal.is_late(now):
                why = self._why(record, context, renewal)
                yield lacks(hub, f"successor of {need.type}", f"it expires at {renewal.ends_at.isoformat()}{why}")

    def _why(self, record: ParticipantRecord, context: str, renewal: Renewal) -> str:
        """What the issuer says of the credential itself, or of the last attempts to have it anew."""
        for attempt in renewal.awaited(self._clock()):
            request_id = renewal.request_id(record.left, attempt)
            if reason := self._issuer.failure_of(context, request_id):
                return f"; request {request_id}: {reason}"
        status = self._issuer.status_of(context, holder_did=record.did, credential_id=renewal.credential.credential_id)
        return f"; its issuer says: {status}" if status else ""
