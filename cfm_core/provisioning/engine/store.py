"""The engine in Postgres: each step is one call of a function of the schema ``provision_manager``."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfm_core.contracts import subjects
from cfm_core.contracts.activity import ActivityOutcome, ActivityTypeAnnouncement, UncheckedDispatch
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.contracts.reply import EventDict, OutboxRow
from cfm_core.errors import CfmError, FieldError, RecoverableError
from cfm_core.provisioning.engine.checks import (
    INVALID_INPUT,
    INVALID_OUTPUT,
    as_invalid_input,
    as_invalid_output,
    input_problem,
    joined,
    output_problem,
)
from cfm_core.provisioning.engine.events import as_failure, dispatch_event, refused_event, response_to
from cfm_core.provisioning.engine.model import Progress, check_id, within_reason
from cfm_core.provisioning.engine.service import NO_TRACES
from cfm_core.store import outbox
from cfm_core.store.database import Database, Row
from cfm_core.store.sql import Queries
from cfm_core.trace import NONE, Context, within

log = logging.getLogger(__name__)

SQL = Queries("cfm_core.provisioning.engine")


def manifest_row(manifest: OrchestrationManifest, belongs_to: Context = NONE) -> dict[str, Any]:
    """A manifest as ``start_orchestrations`` takes it."""
    row: dict[str, Any] = {
        "id": manifest.id,
        "correlationId": manifest.correlation_id,
        "type": manifest.orchestration_type,
        "templateRef": manifest.template_ref,
        "tenantId": manifest.tenant_id,
        "payload": manifest.payload,
    }
    return row | {"trace": dict(belongs_to)} if belongs_to else row


def outcome_row(
    outcome: ActivityOutcome, *, told: str | None = None, checked: str | None = None, outside: bool = False
) -> dict[str, Any]:
    """An outcome as ``record_outcomes`` takes it.

    Args:
        told: how the history calls it, if not by its kind.
        checked: what it has recorded has been held against the output schema, together with the ending that has this token,
            or alone where it is empty.
        outside: somebody else than the agent says it.
    """
    after = within_reason(outcome.after)
    return {
        "orchestrationId": outcome.orchestration_id,
        "phase": outcome.phase,
        "ord": outcome.ord,
        "token": outcome.token,
        "kind": outcome.kind,
        "begun": outcome.begun,
        "after": None if after is None else after.total_seconds(),
        "reason": outcome.reason,
        "values": outcome.values or None,
        "deleted": outcome.deleted or None,
        "outputs": outcome.outputs or None,
        "told": told,
        "checked": checked,
        "outside": outside,
    }


@dataclass(frozen=True, slots=True)
class HeldBack:
    """An outcome of a batch that ``record_outcomes`` has not taken in, and what is wrong with it, if anything."""

    place: int
    problem: FieldError | None
    checked: str
    """With what it was looked at, see ``outcome_row``."""


def taken_in(rows: list[Row], outcomes: Sequence[ActivityOutcome]) -> tuple[list[Row], list[HeldBack]]:
    """What ``record_outcomes`` has written for ``outcomes``, and which of them it wanted to be looked at first."""
    if not rows or rows[-1][0] is not None:
        return rows, []
    *rows, (_, _, held) = rows
    return rows, [_held_back(one, outcomes[one["place"]]) for one in json.loads(held)]


def _held_back(one: dict[str, Any], outcome: ActivityOutcome) -> HeldBack:
    early = one["ending"] or {"token": "", "values": {}, "outputs": {}}
    both = joined(outcome, early["values"], early["outputs"])
    return HeldBack(one["place"], output_problem(both, one["schema"], one["known"]), early["token"])


class PostgresEngine:
    """See ``Engine``. Where a batch cannot be taken in as a whole, it is halved until the culprit is alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, manifests: Sequence[OrchestrationManifest], traces: Mapping[str, Context] = NO_TRACES) -> Progress:
        progress = Progress()
        places: dict[str, int] = {}
        for place, manifest in enumerate(manifests):
            places.setdefault(manifest.id, place)

        def start(some: Sequence[int]) -> list[Row]:
            for place in some:
                check_id(manifests[place].id)
            rows = [manifest_row(one, traces.get(one.id, NONE)) for one in map(manifests.__getitem__, some)]
            return self._database.rows(SQL["start"], manifests=json.dumps(rows), lease=outbox.LEASE, answers=True)

        def refuse(place: int, error: CfmError) -> None:
            manifest = manifests[place]
            belongs_to = traces.get(manifest.id, NONE)
            progress.refused[place] = str(error)
            self._put_dead_letter(subjects.MANIFESTS, manifest.to_json(), error, belongs_to)
            answer = response_to(manifest, belongs_to, success=False, error_detail=str(error), properties={})
            try:
                with self._database.transaction() as tx:
                    progress.outbox.append(outbox.put_for_caller(tx, subjects.RESPONSES, [answer]))
            except RecoverableError:
                raise
            except CfmError:
                log.warning("a manifest that cannot be taken in cannot be answered either", exc_info=True)

        _by_halves(list(places.values()), start, refuse, progress)
        return progress

    def record(self, outcomes: Sequence[ActivityOutcome], traces: Mapping[str, Context] = NO_TRACES) -> Progress:
        progress = Progress()

        def record_these(some: Sequence[ActivityOutcome]) -> list[Row]:
            rows, held = taken_in(self._record([outcome_row(outcome) for outcome in some]), some)
            # Each statement is a step of its own: a crash in between leaves outcomes that nobody has heard yet. One is looked at
            # once more where somebody outside has ended its activity meanwhile.
            while held:
                some = [some[one.place] for one in held]
                checked = [_checked_row(outcome, one) for outcome, one in zip(some, held, strict=True)]
                written, held = taken_in(self._record(checked), some)
                rows = rows + written
            return rows

        def record(some: Sequence[int]) -> list[Row]:
            return record_these([outcomes[place] for place in some])

        def refuse(place: int, error: CfmError) -> None:
            outcome = outcomes[place]
            progress.refused[place] = str(error)
            self._put_dead_letter(subjects.RESULTS, outcome.to_json(), error, traces.get(outcome.token, NONE))
            try:
                progress.outbox += _written(record_these([as_failure(outcome, error)]))
            except RecoverableError:
                raise
            except CfmError:
                log.warning("an outcome names an activity in a way that cannot be stored", exc_info=True)

        _by_halves(range(len(outcomes)), record, refuse, progress)
        return progress

    def check_inputs(
        self, dispatches: Mapping[str, UncheckedDispatch], traces: Mapping[str, Context] = NO_TRACES
    ) -> Progress:
        good: dict[str, list[EventDict]] = {}
        bad: list[dict[str, Any]] = []
        for event_id, dispatch in dispatches.items():
            if (problem := input_problem(dispatch)) is not None:
                bad.append(outcome_row(as_invalid_input(dispatch, problem), told=INVALID_INPUT))
            else:
                checked = dispatch_event(event_id, dispatch, traces.get(event_id, NONE))
                good.setdefault(dispatch.activity_type, []).append(checked)
        with self._database.transaction() as tx:
            written = [outbox.put_for_caller(tx, subjects.activity(type_), events) for type_, events in good.items()]
            if bad:
                written += _written(tx.rows(SQL["record"], outcomes=json.dumps(bad), lease=outbox.LEASE))
        return Progress(written)

    def sweep(self, most: int = 1000) -> Progress:
        progress = self._take_care(most)
        progress.outbox += _written(self._database.rows(SQL["admit"], lease=outbox.LEASE))
        return progress

    def _take_care(self, most: int) -> Progress:
        progress = Progress()
        try:
            progress.outbox += _written(self._sweep(most, None))
            return progress
        except RecoverableError:
            raise
        except CfmError:
            log.exception("the sweep of overdue activities failed; looking for the culprit")
        overdue = [id_ for (id_,) in self._database.rows(SQL["list_overdue"], most=most)]

        def sweep(some: Sequence[int]) -> list[Row]:
            return self._sweep(most, [overdue[place] for place in some])

        def refuse(place: int, error: CfmError) -> None:
            self._put_dead_letter("sweep", {"orchestrationId": overdue[place]}, error)
            self._database.rows(SQL["postpone"], orch_id=overdue[place])

        _by_halves(range(len(overdue)), sweep, refuse, progress)
        return progress

    def register_types(self, announcements: Sequence[ActivityTypeAnnouncement]) -> Progress:
        rows = {
            one.activity_type: {
                "type": one.activity_type,
                "timeout": one.timeout.total_seconds(),
                "attempts": one.max_attempts,
                "backoff": one.backoff.total_seconds(),
                "backoff_limit": one.backoff_limit.total_seconds(),
            }
            for one in announcements
        }
        self._database.rows(SQL["register_types"], announcements=json.dumps(list(rows.values())))
        return Progress()

    def _record(self, outcomes: list[dict[str, Any]]) -> list[Row]:
        return self._database.rows(SQL["record"], outcomes=json.dumps(outcomes), lease=outbox.LEASE)

    def _sweep(self, most: int, among: list[str] | None) -> list[Row]:
        return self._database.rows(SQL["sweep"], most=most, lease=outbox.LEASE, among=among)

    def _put_dead_letter(
        self, subject: str, document: dict[str, object], error: CfmError, belongs_to: Context = NONE
    ) -> None:
        with within(belongs_to):
            log.error("dead letter on %s: %s", subject, error, exc_info=error)
        try:
            event = json.dumps(refused_event(subject, document, belongs_to))
            self._database.rows(SQL["put_dead_letter"], subject=subject, event=event, reason=str(error))
        except CfmError as failure:
            # Then the culprit is the store: what was sent is not taken in, and has to come again.
            raise RecoverableError("what cannot be taken in cannot be kept as a dead letter either") from failure


def _checked_row(outcome: ActivityOutcome, held: HeldBack) -> dict[str, Any]:
    if held.problem is None:
        return outcome_row(outcome, checked=held.checked)
    return outcome_row(as_invalid_output(outcome, held.problem), told=INVALID_OUTPUT)


def _written(rows: Sequence[Row]) -> list[OutboxRow]:
    return [OutboxRow(id_, subject, events) for id_, subject, events in rows]


def _by_halves(
    places: Sequence[int],
    step: Callable[[Sequence[int]], list[Row]],
    refuse: Callable[[int, CfmError], None],
    progress: Progress,
) -> None:
    """Run ``step`` for all ``places``, in as many parts as it takes, and ``refuse`` for those that fail alone."""
    if not places:
        return
    try:
        progress.outbox += _written(step(places))
        return
    except RecoverableError:
        raise
    except CfmError as error:
        culprit = error
    if len(places) == 1:
        refuse(places[0], culprit)
        return
    middle = len(places) // 2
    _by_halves(places[:middle], step, refuse, progress)
    _by_halves(places[middle:], step, refuse, progress)
