"""What the services have of nobody whom our records know.

Siglet and the control plane's data planes cannot be listed; whoever is left there is found by what is left beside.

Source: dataspace service contracts, sections 3.2, 4.3, 5.2, 6.2 and 7.1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cfm_core.clients.control_plane import ControlPlane
from cfm_core.clients.edc import PAGE
from cfm_core.clients.identity_hub import IdentityHub
from cfm_core.clients.issuer_service import IssuerService
from cfm_core.clients.jwtlet import NoTokenError
from cfm_core.clients.tenant_manager import ParticipantRecord, TenantManager
from cfm_core.reconciliation.findings import Finding, Service
from cfm_core.reconciliation.rounds import pages_of

PENDING = "vpas.state = 'pending'"


@dataclass(frozen=True, slots=True)
class _Entry:
    """Something that a service has; ``context`` or ``did`` is empty where the service does not tell it."""

    service: Service
    what: str
    context: str
    did: str
    detail: str = ""

    def finding(self) -> Finding:
        return Finding(
            service=self.service, what=self.what, detail=self.detail, participant_context=self.context, did=self.did
        )


class Strays:
    """Holds what the services list against our records. Changes nothing.

    What belongs to a participant that is being deployed or disposed, or whose deployment has failed, is none.

    Args:
        issuer_id: the issuer's own participant context, which is nobody's.
        accounts: whose mappings at jwtlet are for participants; the agents' own is the first.
    """

    def __init__(
        self,
        tenants: TenantManager,
        control_plane: ControlPlane,
        identity_hub: IdentityHub,
        issuer: IssuerService,
        *,
        issuer_id: str,
        accounts: Sequence[str],
    ) -> None:
        self._tenants = tenants
        self._control_plane = control_plane
        self._identity_hub = identity_hub
        self._issuer = issuer
        self._issuer_id = issuer_id
        self._accounts = accounts

    def listed(self, context: str, number: int | None) -> Iterator[Finding]:
        """What control plane, IdentityHub and issuer have of nobody.

        Args:
            context: any participant context that there is a token for.
            number: of the round, where a part will do.
        """

        def contexts(offset: int, limit: int) -> list[_Entry]:
            found = self._control_plane.participants(context, offset, limit)
            return [_Entry(Service.CONTROL_PLANE, "participant context", *one) for one in found]

        def participants(offset: int, limit: int) -> list[_Entry]:
            found = self._identity_hub.participants(context, offset, limit)
            return [_Entry(Service.IDENTITY_HUB, "participant", *one) for one in found]

        def holders(offset: int, limit: int) -> list[_Entry]:
            found = self._issuer.holders(context, offset, limit)
            # A holder's id need not be that of a participant context.
            return [_Entry(Service.ISSUER_SERVICE, "holder", "", one.did, f"holder {one.id}") for one in found]

        for fetch in (contexts, participants, holders):
            for offset, page in pages_of(fetch, number, PAGE):
                yield from self._of_page(page, partial(fetch, offset, PAGE))

    def mapped(
        self, clients_by_context: Mapping[str, set[str]], reread: Callable[[], Mapping[str, set[str]]]
    ) -> list[Finding]:
        """What jwtlet maps for nobody.

        Args:
            clients_by_context: who has a mapping for which participant context.
            reread: gives the same as it is now.
        """
        of_ours = {
            context: clients & set(self._accounts)
            for context, clients in clients_by_context.items()
            if context != self._issuer_id and clients & set(self._accounts)
        }
        recorded = {one.context for one in self._tenants.with_contexts(of_ours) if not one.is_disposed}
        unknown = [context for context in of_ours if context not in recorded]
        if not unknown:
            return []
        dids = {context: self._did_of(context, of_ours[context]) for context in unknown}
        # The mapping is the first that a deployment makes, and tells nothing of whose it is.
        one_is_pending = any(not did for did in dids.values()) and bool(self._tenants.participants(PENDING, limit=1))
        entries = [
            _Entry(Service.JWTLET, "mapping", context, dids[context], f"of {account}")
            for context in unknown
            for account in sorted(of_ours[context])
            if dids[context] or not one_is_pending
        ]
        return list(self._of_page(entries, lambda: [one for one in entries if self._is_still(one, reread())]))

    @staticmethod
    def _is_still(entry: _Entry, clients_by_context: Mapping[str, set[str]]) -> bool:
        return entry.detail.removeprefix("of ") in clients_by_context.get(entry.context, ())

    def _did_of(self, context: str, clients: set[str]) -> str:
        """Whose participant context it is, as far as a service knows."""
        if self._accounts[0] not in clients:
            return ""
        try:
            if identity := self._control_plane.find_identity(context):
                return identity
            participant = self._identity_hub.find_participant(context)
        except NoTokenError:
            return ""
        return participant.did if participant else ""

    def _of_page(self, page: Sequence[_Entry], again: Callable[[], Sequence[_Entry]]) -> Iterator[Finding]:
        """What of a page is nobody's: looked up after it was read, since a participant is recorded before it has anything."""
        records: dict[str, list[ParticipantRecord]] = defaultdict(list)
        for record in self._tenants.with_dids(one.did for one in page if one.did):
            records[record.did].append(record)
        strays = [one for one in page if one.context != self._issuer_id and not _has_owner(one, records[one.did])]
        if strays:
            # What a disposal was just taking away is gone by now.
            still = set(again())
            yield from (one.finding() for one in strays if one in still)


def _has_owner(entry: _Entry, records: Sequence[ParticipantRecord]) -> bool:
    return any(
        not one.is_active or not entry.context or one.context in {None, entry.context}
        for one in records
        if not one.is_disposed
    )
