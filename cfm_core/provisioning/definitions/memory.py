"""Definitions in memory."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from cfm_core.audit.model import Kind, Subject
from cfm_core.entities import JsonEntity, array_of, json_of
from cfm_core.errors import FieldError, NotFoundError
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
from cfm_core.provisioning.definitions.v1alpha1 import (
    activity_definition_fields,
    activity_definition_to_json,
    orchestration_definition_fields,
    orchestration_definition_to_json,
)
from cfm_core.provisioning.keys import check_after
from cfm_core.provisioning.memory.admission import count_in_flight
from cfm_core.provisioning.memory.runs import Defined, Run, Runs
from cfm_core.provisioning.storable import check_storable
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.memory import page_of
from cfm_core.versions import ANY, Expected


class MemoryDefinitions:
    """See ``Definitions``."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._versions = itertools.count(1)
        self._templates: dict[str, int] = {}
        """The version of each template that has definitions in force."""
        self._made: dict[str, int] = {}
        """How many definitions each type has had."""

    def select_activity_definitions(self, predicate: Predicate, page: Page) -> JsonPage:
        check_after(page)
        with self._runs.lock:
            definitions = dict(self._runs.activity_definitions)
        return page_of(
            *(definitions, predicate, ACTIVITY_DEFINITION, page),
            stored=activity_definition_fields,
            shown=activity_definition_to_json,
        )

    def get_activity_definition(self, activity_type: str) -> JsonEntity:
        with self._runs.lock:
            found = self._runs.activity_definitions.get(activity_type)
        if found is None:
            raise NotFoundError("activity definition", activity_type)
        return _entity(found)

    def put_activity_definition(
        self, definition: ActivityDefinition, expected: Expected = ANY
    ) -> tuple[bool, JsonEntity]:
        check_activity_definition(definition)
        check_storable([definition.description, definition.input_schema, definition.output_schema])
        with self._runs.lock:
            before = self._runs.activity_definitions.get(definition.type)
            expected.check(f"activity definition {definition.type}", before.version if before else None)
            after = replace(definition, version=before.version + 1 if before else 0)
            if before is not None:
                self._renew(before, after)
            self._runs.activity_definitions[definition.type] = after
            self._note_activity_definition(after.type, before, after)
            if self._runs.is_gated_type(definition.type):
                count_in_flight(self._runs, definition.type)
        return before is None, _entity(after)

    def delete_activity_definition(self, activity_type: str, expected: Expected = ANY) -> None:
        with self._runs.lock:
            before = self._runs.activity_definitions.get(activity_type)
            if before is None:
                raise NotFoundError("activity definition", activity_type)
            expected.check(f"activity definition {activity_type}", before.version)
            users = {one.definition.type for one in self._users(activity_type) if one.definition.active}
            if users:
                raise activity_type_in_use(activity_type, users)
            runs = [run for run in self._live_runs() if any(node.type == activity_type for node in run.nodes.values())]
            if runs:
                raise activity_type_runs(activity_type, _ids(runs))
            del self._runs.activity_definitions[activity_type]
            self._note_activity_definition(activity_type, before, None)
            self._runs.admitted = [one for one in self._runs.admitted if one.type != activity_type]

    def select_orchestration_definitions(self, predicate: Predicate, page: Page) -> JsonPage:
        check_after(page)
        with self._runs.lock:
            definitions = {_place(one): one.definition for one in self._runs.definitions}
        return page_of(
            *(definitions, predicate, ORCHESTRATION_DEFINITION, page),
            stored=orchestration_definition_fields,
            shown=orchestration_definition_to_json,
        )

    def get_template(self, template_ref: str) -> JsonEntity:
        with self._runs.lock:
            found = self._find_template(template_ref)
        if found is None:
            raise NotFoundError("orchestration template", template_ref)
        return found

    def add_template(self, template: OrchestrationTemplate) -> Sequence[FieldError]:
        with self._runs.lock:
            doubts = self._check(template)
            self._put(template, beside=not template.active)
            return doubts

    def put_template(self, template: OrchestrationTemplate, expected: Expected = ANY) -> PutTemplate:
        with self._runs.lock:
            before = self._find_template(template.id)
            expected.check(f"orchestration template {template.id}", before.version if before else None)
            doubts = self._check(template)
            gone = [one for one in self._of_template(template.id) if one.definition.type not in template.activities]
            self._retire(gone, template.id)
            self._put(template, beside=True)
            return PutTemplate(before is None, self.get_template(template.id), doubts)

    def set_active(self, template_ref: str, active: bool, expected: Expected = ANY) -> JsonEntity:
        with self._runs.lock:
            before = self.get_template(template_ref)
            expected.check(f"orchestration template {template_ref}", before.version)
            changed = [one for one in self._of_template(template_ref) if one.definition.active != active]
            if not changed:
                return before
            if active:
                definitions = (one.definition for one in self._of_template(template_ref))
                check_template(template_of(template_ref, definitions), self._runs.activity_definitions)
            for one in changed:
                was, one.definition = one.definition, replace(one.definition, active=active)
                self._note_definition(was, one.definition)
            self._templates[template_ref] = next(self._versions)
            return self.get_template(template_ref)

    def delete_template(self, template_ref: str, expected: Expected = ANY) -> None:
        with self._runs.lock:
            before = self.get_template(template_ref)
            expected.check(f"orchestration template {template_ref}", before.version)
            self._retire(self._of_template(template_ref), template_ref)
            del self._templates[template_ref]

    def forget(self, most: int = 1000, unused_for: timedelta = UNUSED_FOR) -> int:
        return 0  # What is out of force is kept by runs only.

    def _users(self, activity_type: str) -> list[Defined]:
        return [one for one in self._runs.definitions if any(node.type == activity_type for *_, node in one.made.nodes)]

    def _live_runs(self) -> list[Run]:
        return [run for run in self._runs.runs.values() if run.remaining or run.resend_at]

    def _renew(self, before: ActivityDefinition, after: ActivityDefinition) -> None:
        if (before.input_schema, before.output_schema) == (after.input_schema, after.output_schema):
            return
        known = {**self._runs.activity_definitions, after.type: after}
        users = self._users(after.type)
        check_replacement(before, after, [one.definition for one in users if one.definition.active], known)
        for one in users:
            self._note_definition(one.definition, None)
            one.definition = replace(one.definition, version=self._next_version(one.definition.type))
            self._note_definition(None, one.definition)
            one.made = compiled(one.definition.activities, known)

    def _of_template(self, template_ref: str) -> list[Defined]:
        found = [one for one in self._runs.definitions if one.definition.template_ref == template_ref]
        return sorted(found, key=lambda one: one.definition.type)

    def _find_template(self, template_ref: str) -> JsonEntity | None:
        in_force = self._of_template(template_ref)
        if not in_force:
            return None
        text = array_of(orchestration_definition_to_json(one.definition) for one in in_force)
        return JsonEntity(self._templates[template_ref], text)

    def _check(self, template: OrchestrationTemplate) -> Sequence[FieldError]:
        doubts = check_template(template, self._runs.activity_definitions)
        check_storable([template.id, template.description, template.schema, list(template.activities)])
        check_storable(
            [
                [
                    activity.id,
                    activity.condition,
                    *(name for one in activity.inputs for name in (one.source, one.target)),
                ]
                for activities in template.activities.values()
                for activity in activities
            ]
        )
        return doubts

    def _put(self, template: OrchestrationTemplate, *, beside: bool) -> None:
        before = self._of_template(template.id)
        beside = beside or any(one.beside for one in before)
        posted = self._templates[template.id] = next(self._versions)
        if beside:
            for one in before:
                one.beside = True
        else:
            self._take_over(template)
        for definition in template.definitions():
            self._remove([one for one in before if one.definition.type == definition.type])
            new = Defined(
                definition=replace(definition, version=self._next_version(definition.type)),
                made=compiled(definition.activities, self._runs.activity_definitions),
                posted=posted,
                beside=beside,
            )
            self._runs.definitions.append(new)
            self._note_definition(None, new.definition)

    def _take_over(self, template: OrchestrationTemplate) -> None:
        taken = [
            one
            for one in self._runs.definitions
            if one.definition.type in template.activities
            and not one.beside
            and one.definition.template_ref != template.id
        ]
        self._remove(taken)
        for ref in {one.definition.template_ref for one in taken}:
            if self._of_template(ref):
                self._templates[ref] = next(self._versions)
            else:
                del self._templates[ref]

    def _next_version(self, type_: str) -> int:
        self._made[type_] = self._made.get(type_, 0) + 1
        return self._made[type_]

    def _retire(self, gone: list[Defined], template_ref: str) -> None:
        runs = [run for run in self._live_runs() if run.definition.template_ref == template_ref]
        if gone and runs:
            raise template_in_use(template_ref, _ids(runs))
        self._remove(gone)

    def _remove(self, gone: list[Defined]) -> None:
        self._runs.definitions = [one for one in self._runs.definitions if one not in gone]
        for one in gone:
            self._note_definition(one.definition, None)

    def _note_activity_definition(
        self, type_: str, before: ActivityDefinition | None, after: ActivityDefinition | None
    ) -> None:
        subject = Subject(Kind.ACTIVITY_DEFINITIONS, type_)
        self._runs.audit.note_change(subject, before, after, activity_definition_to_json)

    def _note_definition(self, before: OrchestrationDefinition | None, after: OrchestrationDefinition | None) -> None:
        """Without one that is in force afterwards, the one before is retired."""
        there = after or before
        assert there is not None
        action = "create" if before is None else "retire" if after is None else "resume" if after.active else "pause"
        self._runs.audit.note_asked(
            Subject(Kind.ORCHESTRATION_DEFINITIONS, there.type, f"{there.template_ref}/{there.version}"),
            action,
            _word(before) if before else "absent",
            _word(after) if after else "retired",
            document_before=None if before is None else orchestration_definition_to_json(before),
            document_after=orchestration_definition_to_json(there),
        )


def _place(one: Defined) -> str:
    """Where a definition stands in the list, as the database's ``place``."""
    if not one.beside:
        return one.definition.type
    ref = hashlib.md5(one.definition.template_ref.encode(), usedforsecurity=False).hexdigest()
    return f"{one.definition.type}\x01{ref}"


def _word(definition: OrchestrationDefinition) -> str:
    return "active" if definition.active else "inactive"


def _ids(runs: Sequence[Run]) -> list[str]:
    return [run.manifest.id for run in runs[:10]]


def _entity(definition: ActivityDefinition) -> JsonEntity:
    return JsonEntity(definition.version, json_of(activity_definition_to_json(definition)))
