"""Activities that are carried out by orchestrations, in Postgres."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from cfm_core.contracts.activity import ActivityOutcome
from cfm_core.contracts.reply import OutboxRow
from cfm_core.errors import ConflictError, NotFoundError
from cfm_core.provisioning.calls.model import Call, CalledActivity, Child, Elements, NewChild
from cfm_core.provisioning.definitions.model import orchestration_in
from cfm_core.provisioning.engine.model import OrchestrationState
from cfm_core.provisioning.engine.store import outcome_row
from cfm_core.store import outbox
from cfm_core.store.database import Database, Row, Transaction
from cfm_core.store.sql import Queries

SQL = Queries("cfm_core.provisioning.calls")


class PostgresCalls:
    """See ``CallStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.contextmanager
    def held(self, call: Call) -> Iterator[_HeldActivity]:
        with self._database.transaction() as tx:
            yield _HeldActivity(tx, call)


class _HeldActivity:
    """See ``HeldActivity``."""

    def __init__(self, tx: Transaction, call: Call) -> None:
        self._tx = tx
        self._call = call
        tx.rows(SQL["lock"], **_key(call))
        self._row = tx.row(SQL["find"], **_key(call))
        self.activity = None if self._row is None else self._read(self._row)

    def keep_elements(self, elements: Sequence[object]) -> None:
        self._tx.rows(SQL["keep_elements"], elements=json.dumps(elements), **_key(self._call))

    def start(self, children: Sequence[NewChild]) -> list[OutboxRow]:
        assert self._row is not None
        _, type_, def_id, own_type, correlation_id, tenant_id, child_phase, belongs_to, *_ = self._row
        called = orchestration_in(type_)
        rows = [
            {
                "id": child.id,
                "correlationId": correlation_id,
                "type": called or own_type,
                "tenantId": tenant_id,
                "payload": child.payload,
                "trace": belongs_to,
                "parent": self._call.orchestration_id,
                "parentPhase": self._call.phase,
                "parentOrd": self._call.ord,
                "element": child.element,
                "defId": None if called else def_id,
                "phase": child_phase,
            }
            for child in children
        ]
        ids = [child.id for child in children]
        written = self._write("start", manifests=json.dumps(rows))
        if (missing := self._tx.value(SQL["find_missing"], ids=ids)) is not None:
            raise NotFoundError("active orchestration type", called or missing)
        if (foreign := self._tx.value(SQL["find_foreign"], ids=ids, **_key(self._call))) is not None:
            raise ConflictError(f"there is another orchestration {foreign}")
        return written

    def retry(self, id_: str) -> list[OutboxRow]:
        self._tx.rows(SQL["follow"], id=id_)
        return self._write("retry", id=id_)

    def cancel(self, id_: str, reason: str) -> list[OutboxRow]:
        return self._write("cancel", id=id_, reason=reason)

    def record(self, outcome: ActivityOutcome) -> list[OutboxRow]:
        return self._write("record", outcomes=json.dumps([outcome_row(outcome)]))

    def _write(self, query: str, **params: Any) -> list[OutboxRow]:
        return [OutboxRow(*row) for row in self._tx.rows(SQL[query], lease=outbox.LEASE, **params)]

    def _read(self, row: Row) -> CalledActivity:
        activity_id, (token, waits, dispatched_at, goes_on, paused, depth, values, *each) = row[0], row[8:]
        for_each, kept, found = each
        return CalledActivity(
            call=self._call,
            id=activity_id,
            token=token,
            waits=waits,
            dispatched_at=dispatched_at,
            goes_on=goes_on,
            paused=paused,
            depth=depth,
            values=values,
            elements=for_each
            and Elements(
                source=for_each["source"]["key"],
                name=for_each["name"],
                concurrency=for_each["concurrency"],
                kept=kept,
                found=found,
            ),
            children=self._children(self._call),
            undone=self._children(Call(self._call.orchestration_id, 0, self._call.ord))
            if self._call.phase == 1
            else (),
        )

    def _children(self, call: Call) -> list[Child]:
        return [
            Child(
                id=id_,
                element=element,
                state=OrchestrationState(state),
                state_at=state_at,
                error_detail=error_detail,
                values=values or {},
                outputs=outputs or {},
            )
            for id_, element, state, state_at, error_detail, values, outputs in self._tx.rows(
                SQL["list_children"], **_key(call)
            )
        ]


def _key(call: Call) -> dict[str, Any]:
    return {"run": call.orchestration_id, "phase": call.phase, "ord": call.ord}
