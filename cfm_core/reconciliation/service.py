"""The rounds in which the services are held against our records: credentials are renewed, and what differs is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from datetime import timedelta

from cfm_core.clients.jwtlet import ResourceMappings
from cfm_core.clients.tenant_manager import ACTIVE, ParticipantRecord, TenantManager
from cfm_core.clock import Clock
from cfm_core.errors import CfmError, RecoverableError
from cfm_core.reconciliation.findings import Report
from cfm_core.reconciliation.missing import Expectations
from cfm_core.reconciliation.renewal import MOST_UNANSWERED, Renewals, Renewed
from cfm_core.reconciliation.rounds import participants_of, round_number
from cfm_core.reconciliation.superfluous import Strays

ACTIVE_ONES = f"vpas.state = '{ACTIVE}'"

log = logging.getLogger(__name__)


class Reconciliation:
    """Rounds over some of the participants at a time, or over all. Safe to repeat, and to have several at a time.

    Args:
        accounts: who has a mapping at jwtlet for each participant; the agents' own is the first.
    """

    def __init__(
        self,
        tenants: TenantManager,
        mappings: ResourceMappings,
        renewals: Renewals,
        expectations: Expectations,
        strays: Strays,
        *,
        accounts: tuple[str, ...],
        clock: Clock,
    ) -> None:
        self._tenants = tenants
        self._mappings = mappings
        self._renewals = renewals
        self._expectations = expectations
        self._strays = strays
        self._agents = accounts[0]
        self._clock = clock

    def renew(self, *, every: timedelta, within: timedelta) -> Renewed:
        """Renew the credentials of those participants whose turn it is in rounds that come ``every`` so often.

        Raises:
            RecoverableError: something could not be looked at; the next rounds will.
        """
        return self._renewals.renew(self._some(every), within)

    def renew_all(self) -> Renewed:
        """Renew the credentials of all participants, no more at a time than a round may ask for."""
        return self._renewals.renew(self._tenants.all_participants(ACTIVE_ONES), timedelta.max)

    def report(self, *, every: timedelta, within: timedelta) -> Report:
        """Tell, also in the log, what differs for those participants, and in those parts of lists, whose turn it is."""
        number = round_number(self._clock(), every)
        found = self._report(self._some(every), number, within)
        for kind, findings in (("missing", found.missing), ("superfluous", found.superfluous)):
            for one in findings:
                log.warning("%s at %s: %s", kind, one.service, one.what, extra={"finding": kind, **one.to_json()})
        for text in found.not_looked_at:
            log.error("not looked at: %s", text)
        log.info(
            "held the services against %d participants: %d things missing, %d superfluous",
            found.participants,
            len(found.missing),
            len(found.superfluous),
            extra={
                "participants": found.participants,
                "missing": len(found.missing),
                "superfluous": len(found.superfluous),
            },
        )
        return found

    def report_all(self) -> Report:
        """What differs for any participant, and in all that the services list."""
        return self._report(self._tenants.all_participants(ACTIVE_ONES), None, timedelta.max)

    def _some(self, every: timedelta) -> Iterable[ParticipantRecord]:
        return participants_of(self._tenants, ACTIVE_ONES, round_number(self._clock(), every))

    def _report(self, participants: Iterable[ParticipantRecord], number: int | None, within: timedelta) -> Report:
        ends = time.monotonic() + within.total_seconds()
        report = Report(self._clock())
        clients_by_context = self._mappings.clients_by_context()
        by_dataspace = self._tenants.needed_credentials()
        unanswered = 0
        seen_by = ""
        for record in participants:
            if time.monotonic() >= ends or unanswered == MOST_UNANSWERED:
                report.not_looked_at.append(f"participant profiles from {record.id} on")
                break
            report.participants += 1
            try:
                found = self._expectations.missing(record, clients_by_context, by_dataspace)
                if found and self._is_as_before(record):
                    report.missing += found
                if record.context and self._agents in clients_by_context.get(record.context, ()):
                    seen_by = seen_by or record.context
                unanswered = 0
            except CfmError as error:
                report.not_looked_at.append(f"participant profile {record.id}: {error}")
                unanswered = unanswered + 1 if isinstance(error, RecoverableError) else 0
        self._look_for_strays(report, clients_by_context, seen_by, number)
        return report

    def _look_for_strays(
        self, report: Report, clients_by_context: dict[str, set[str]], seen_by: str, number: int | None
    ) -> None:
        # Lists need a token of some participant context: of one that was just seen to do, else of any that there is.
        seen_by = seen_by or min(
            (context for context, clients in clients_by_context.items() if self._agents in clients), default=""
        )
        try:
            report.superfluous += self._strays.mapped(clients_by_context, self._mappings.clients_by_context)
            if not seen_by:
                report.not_looked_at.append("the lists of the services: there is no participant to have a token for")
                return
            report.superfluous += self._strays.listed(seen_by, number)
        except CfmError as error:
            report.not_looked_at.append(f"the lists of the services: {error}")

    def _is_as_before(self, record: ParticipantRecord) -> bool:
        """Whether nobody has begun to change or dispose of the participant meanwhile."""
        now = self._tenants.find_participant(record.tenant_id, record.id)
        return now is not None and now.is_active and now.context == record.context
