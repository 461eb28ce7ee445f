"""Definitions in Postgres."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

from cfm_core.entities import JsonEntity, json_of
from cfm_core.errors import FieldError, NotFoundError
from cfm_core.provisioning.definitions import v1alpha1
from cfm_core.provisioning.definitions.compiled import compiled
from cfm_core.provisioning.definitions.fields import ACTIVITY_DEFINITION, ORCHESTRATION_DEFINITION
from cfm_core.provisioning.definitions.model import (
    ActivityDefinition,
    OrchestrationDefinition,
    OrchestrationTemplate,
    template_of,
)
from cfm_core.provisioning.definitions.rules import (
    check_activity_definition,
    check_replacement,
    check_template,
)
from cfm_core.provisioning.definitions.service import (
    UNUSED_FOR,
    PutTemplate,
    activity_type_in_use,
    activity_type_runs,
    template_in_use,
)
from cfm_core.provisioning.keys import check_after, check_known
from cfm_core.query import JsonPage, Page, Predicate, to_condition, to_sql
from cfm_core.store import paging
from cfm_core.store.database import Database, Transaction
from cfm_core.store.paging import Listing
from cfm_core.store.sql import Queries
from cfm_core.versions import ANY, Expected

SQL = Queries("cfm_core.provisioning.definitions")

_BYTES = "octet_length((t).document::text)"
ACTIVITY_DEFINITIONS = Listing(
    "provision_manager.activity_definition", "(t).document::text", _BYTES, key="type", key_type="text"
)
ORCHESTRATION_DEFINITIONS = Listing(
    "provision_manager.definition",
    "provision_manager.definition_json(t)",
    _BYTES,
    key="place",
    key_type="text",
    only="t.is_current",
)

Known = Mapping[str, ActivityDefinition]


class PostgresDefinitions:
    """See ``Definitions``. Changes happen one at a time, so that what a check has found still holds when it counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def select_activity_definitions(self, predicate: Predicate, page: Page) -> JsonPage:
        check_after(page)
        condition, params = to_sql(predicate, ACTIVITY_DEFINITION)
        return paging.select(self._database, ACTIVITY_DEFINITIONS, page, condition, params)

    def get_activity_definition(self, activity_type: str) -> JsonEntity:
        check_known("activity definition", activity_type)
        row = self._database.row(SQL["find_activity_definition"], type=activity_type)
        if row is None:
            raise NotFoundError("activity definition", activity_type)
        return JsonEntity(*row)

    def put_activity_definition(
        self, definition: ActivityDefinition, expected: Expected = ANY
    ) -> tuple[bool, JsonEntity]:
        check_activity_definition(definition)
        rate, tenant_rate = definition.limits.rate, definition.limits.rate_per_tenant
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            before = tx.row(SQL["find_activity_definition"], type=definition.type)
            expected.check(f"activity definition {definition.type}", before[0] if before else None)
            (row,) = tx.rows(
                SQL["put_activity_definition"],
                type=definition.type,
                document=json_of(v1alpha1.activity_definition_to_json(definition)),
                timeout=_seconds(definition.timeout),
                start=_seconds(definition.timeouts.schedule_to_start),
                close=_seconds(definition.timeouts.schedule_to_close),
                heartbeat=_seconds(definition.timeouts.heartbeat),
                wait=_seconds(definition.timeouts.wait),
                max_attempts=definition.retry.max_attempts,
                backoff=_seconds(definition.retry.backoff),
                backoff_limit=_seconds(definition.retry.backoff_limit),
                max_in_flight=definition.limits.concurrency,
                max_per_tenant=definition.limits.concurrency_per_tenant,
                rate_count=rate and rate.count,
                rate=rate and rate.per.total_seconds(),
                tenant_rate_count=tenant_rate and tenant_rate.count,
                tenant_rate=tenant_rate and tenant_rate.per.total_seconds(),
                max_failures=definition.limits.consecutive_failures,
            )
            if definition.limits.hold_back:
                tx.rows(SQL["count_in_flight"], type=definition.type)
            if before is not None:
                _renew(tx, v1alpha1.activity_definition_from_json(json.loads(before[1])), definition)
        return before is None, JsonEntity(*row)

    def delete_activity_definition(self, activity_type: str, expected: Expected = ANY) -> None:
        check_known("activity definition", activity_type)
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            before = tx.row(SQL["find_activity_definition"], type=activity_type)
            if before is None:
                raise NotFoundError("activity definition", activity_type)
            expected.check(f"activity definition {activity_type}", before[0])
            users = {type_ for type_, *_, active, _ in tx.rows(SQL["list_users"], type=activity_type) if active}
            if users:
                raise activity_type_in_use(activity_type, users)
            if runs := tx.rows(SQL["list_runs_with_type"], type=activity_type):
                raise activity_type_runs(activity_type, (run for (run,) in runs))
            tx.rows(SQL["delete_activity_definition"], type=activity_type)

    def select_orchestration_definitions(self, predicate: Predicate, page: Page) -> JsonPage:
        check_after(page)
        condition, params = to_sql(predicate, ORCHESTRATION_DEFINITION)
        return paging.select(self._database, ORCHESTRATION_DEFINITIONS, page, condition, params)

    def get_template(self, template_ref: str) -> JsonEntity:
        check_known("orchestration template", template_ref)
        row = self._database.row(SQL["find_template"], template_ref=template_ref)
        if row is None:
            raise NotFoundError("orchestration template", template_ref)
        return JsonEntity(*row)

    def add_template(self, template: OrchestrationTemplate) -> Sequence[FieldError]:
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            return _put(tx, template, beside=not template.active)

    def put_template(self, template: OrchestrationTemplate, expected: Expected = ANY) -> PutTemplate:
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            before = _find(tx, template.id)
            expected.check(f"orchestration template {template.id}", before.version if before else None)
            doubts = _put(tx, template, beside=True)
            _retire(tx, template.id, kept=list(template.activities))
            after = _find(tx, template.id)
        assert after is not None
        return PutTemplate(before is None, after, doubts)

    def set_active(self, template_ref: str, active: bool, expected: Expected = ANY) -> JsonEntity:
        check_known("orchestration template", template_ref)
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            before = _find(tx, template_ref)
            if before is None:
                raise NotFoundError("orchestration template", template_ref)
            expected.check(f"orchestration template {template_ref}", before.version)
            if not tx.rows(SQL["set_active"], template_ref=template_ref, active=active):
                return before
            if active:
                definitions = map(v1alpha1.orchestration_definition_from_json, json.loads(before.text))
                check_template(template_of(template_ref, definitions), _known(tx))
            tx.rows(SQL["put_template"], template_ref=template_ref, beside=False)
            after = _find(tx, template_ref)
        assert after is not None
        return after

    def delete_template(self, template_ref: str, expected: Expected = ANY) -> None:
        check_known("orchestration template", template_ref)
        with self._database.transaction() as tx:
            tx.rows(SQL["lock_definitions"])
            before = _find(tx, template_ref)
            if before is None:
                raise NotFoundError("orchestration template", template_ref)
            expected.check(f"orchestration template {template_ref}", before.version)
            _retire(tx, template_ref, kept=[])
            tx.rows(SQL["delete_template"], template_ref=template_ref)

    def forget(self, most: int = 1000, unused_for: timedelta = UNUSED_FOR) -> int:
        return len(self._database.rows(SQL["forget_definitions"], most=most, unused_for=unused_for))


def _find(tx: Transaction, template_ref: str) -> JsonEntity | None:
    row = tx.row(SQL["find_template"], template_ref=template_ref)
    return None if row is None else JsonEntity(*row)


def _known(tx: Transaction) -> Known:
    return v1alpha1.activity_definitions_by_type([document for (document,) in tx.rows(SQL["activity_definitions"])])


def _put(tx: Transaction, template: OrchestrationTemplate, *, beside: bool) -> Sequence[FieldError]:
    known = _known(tx)
    doubts = check_template(template, known)
    ((posted, beside),) = tx.rows(SQL["put_template"], template_ref=template.id, beside=beside)
    if beside:
        tx.rows(SQL["put_beside"], template_ref=template.id)
    else:
        tx.rows(SQL["take_over"], template_ref=template.id, taken=list(template.activities))
    for definition in template.definitions():
        _replace(tx, definition, known, posted=posted, beside=beside)
    return doubts


def _renew(tx: Transaction, before: ActivityDefinition, after: ActivityDefinition) -> None:
    """Let the definitions that use an activity type have the schemas that it has now, if they can."""
    if (before.input_schema, before.output_schema) == (after.input_schema, after.output_schema):
        return
    rows = tx.rows(SQL["list_users"], type=after.type)
    users = [(v1alpha1.orchestration_definition_from_json(json.loads(text)), row) for *row, text in rows]
    known = _known(tx)
    check_replacement(before, after, [definition for definition, _ in users if definition.active], known)
    for definition, (_, _, posted, beside, _) in users:
        _replace(tx, definition, known, posted=posted, beside=beside)


def _retire(tx: Transaction, template_ref: str, kept: list[str]) -> None:
    if tx.rows(SQL["retire_template"], template_ref=template_ref, kept=kept) and (
        runs := tx.rows(SQL["list_runs"], template_ref=template_ref)
    ):
        raise template_in_use(template_ref, (run for (run,) in runs))


def _replace(tx: Transaction, definition: OrchestrationDefinition, known: Known, *, posted: int, beside: bool) -> None:
    made = compiled(definition.activities, known)
    nodes: list[dict[str, Any]] = [
        {
            "phase": phase,
            "ord": ord_,
            "id": one.id,
            "type": one.type,
            "n_deps": len(one.parents),
            "inputs": [asdict(each) for each in one.inputs] or None,
            "input_schema": one.input_schema,
            "output_schema": one.output_schema,
            "condition": to_condition(one.condition) if one.condition else None,
            "calls": one.calls,
            "for_each": asdict(one.for_each) if one.for_each else None,
            "child_phase": one.child_phase,
        }
        for phase, ord_, one in made.nodes
    ]
    edges = [
        {"phase": phase, "from_ord": parent, "to_ord": ord_}
        for phase, ord_, one in made.nodes
        for parent in one.parents
    ]
    tx.rows(SQL["retire_definition"], type=definition.type, template_ref=definition.template_ref)
    tx.rows(
        SQL["add_definition"],
        type=definition.type,
        template_ref=definition.template_ref,
        posted=posted,
        beside=beside,
        active=definition.active,
        # The flag is the only thing that can change, and has a column.
        document=json_of(v1alpha1.orchestration_definition_to_json(replace(definition, active=True))),
        undo=definition.undo.mode,
        undo_after=definition.undo.after,
        secret_keys=sorted(made.secret_keys),
        nodes=json.dumps(nodes),
        edges=json.dumps(edges),
    )


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
