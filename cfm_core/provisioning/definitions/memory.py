"""Definitions in memory."""

from __future__ import annotations

from dataclasses import replace

from cfm_core.entities import JsonEntity, array_of, json_of
from cfm_core.errors import NotFoundError
from cfm_core.provisioning.definitions.fields import ACTIVITY_DEFINITION, ORCHESTRATION_DEFINITION
from cfm_core.provisioning.definitions.model import (
    ActivityDefinition,
    OrchestrationDefinition,
    OrchestrationTemplate,
    check_activity_definition,
    check_template,
)
from cfm_core.provisioning.definitions.service import activity_type_in_use, template_in_use
from cfm_core.provisioning.definitions.v1alpha1 import (
    activity_definition_fields,
    activity_definition_to_json,
    orchestration_definition_fields,
    orchestration_definition_to_json,
)
from cfm_core.provisioning.keys import check_after
from cfm_core.provisioning.memory import Runs, count_in_flight
from cfm_core.provisioning.storable import check_storable
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.store.memory import page_of
from cfm_core.versions import ANY, Expected


class MemoryDefinitions:
    """See ``Definitions``."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._retired: list[OrchestrationDefinition] = []

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
            self._runs.activity_definitions[definition.type] = after
            if self._runs.is_gated(definition.type):
                count_in_flight(self._runs, definition.type)
        return before is None, _entity(after)

    def delete_activity_definition(self, activity_type: str, expected: Expected = ANY) -> None:
        with self._runs.lock:
            before = self._runs.activity_definitions.get(activity_type)
            if before is None:
                raise NotFoundError("activity definition", activity_type)
            expected.check(f"activity definition {activity_type}", before.version)
            users = [
                definition.type
                for definition in self._runs.definitions.values()
                if any(activity.type == activity_type for activity in definition.activities)
            ]
            if users:
                raise activity_type_in_use(activity_type, users)
            del self._runs.activity_definitions[activity_type]

    def select_orchestration_definitions(self, predicate: Predicate, page: Page) -> JsonPage:
        check_after(page)
        with self._runs.lock:
            definitions = dict(self._runs.definitions)
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

    def add_template(self, template: OrchestrationTemplate) -> None:
        with self._runs.lock:
            self._check(template)
            self._put(template)

    def put_template(self, template: OrchestrationTemplate, expected: Expected = ANY) -> tuple[bool, JsonEntity]:
        with self._runs.lock:
            before = self._find_template(template.id)
            expected.check(f"orchestration template {template.id}", before.version if before else None)
            self._check(template)
            gone = [one for one in self._of_template(template.id) if one.type not in template.activities]
            self._retire(gone, template.id)
            self._put(template)
            return before is None, self.get_template(template.id)

    def delete_template(self, template_ref: str, expected: Expected = ANY) -> None:
        with self._runs.lock:
            before = self.get_template(template_ref)
            expected.check(f"orchestration template {template_ref}", before.version)
            self._retire(self._of_template(template_ref), template_ref)

    def _of_template(self, template_ref: str) -> list[OrchestrationDefinition]:
        return [one for _, one in sorted(self._runs.definitions.items()) if one.template_ref == template_ref]

    def _find_template(self, template_ref: str) -> JsonEntity | None:
        in_force = self._of_template(template_ref)
        retired = sum(one.template_ref == template_ref for one in self._retired)
        text = array_of(map(orchestration_definition_to_json, in_force))
        return JsonEntity(len(in_force) + 2 * retired, text) if in_force else None

    def _check(self, template: OrchestrationTemplate) -> None:
        check_template(template, self._runs.activity_definitions)
        check_storable([template.id, template.description, template.schema, list(template.activities)])
        check_storable([activity.id for activities in template.activities.values() for activity in activities])

    def _put(self, template: OrchestrationTemplate) -> None:
        for definition in template.definitions():
            if (before := self._runs.definitions.get(definition.type)) is not None:
                self._retired.append(before)
            version = 1 + sum(one.type == definition.type for one in self._retired)
            self._runs.definitions[definition.type] = replace(definition, version=version)

    def _retire(self, definitions: list[OrchestrationDefinition], template_ref: str) -> None:
        runs = [
            run.manifest.id
            for run in self._runs.runs.values()
            if run.definition.template_ref == template_ref and (run.remaining or run.resend_at)
        ]
        if definitions and runs:
            raise template_in_use(template_ref, runs[:10])
        for definition in definitions:
            del self._runs.definitions[definition.type]
            self._retired.append(definition)


def _entity(definition: ActivityDefinition) -> JsonEntity:
    return JsonEntity(definition.version, json_of(activity_definition_to_json(definition)))
