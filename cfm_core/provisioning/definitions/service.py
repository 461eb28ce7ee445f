"""What can be done with definitions, whatever stores them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

from cfm_core.entities import JsonEntity
from cfm_core.errors import ConflictError, FieldError
from cfm_core.provisioning.definitions.model import ActivityDefinition, OrchestrationTemplate
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.versions import ANY, Expected

UNUSED_FOR = timedelta(hours=1)
"""How long a definition is out of force, at least, before it is forgotten."""


class InUseError(ConflictError):
    """Something else still needs what was to be deleted. A 400, as the contract has it."""

    status = 400


class PutTemplate(NamedTuple):
    """What has become of a template that was put."""

    is_new: bool
    template: JsonEntity
    doubts: Sequence[FieldError]
    """What its schemas do not rule out."""


class Definitions(Protocol):
    """Activity definitions by type, and orchestration definitions by template and type."""

    def select_activity_definitions(self, predicate: Predicate, page: Page) -> JsonPage:
        """One page of the activity definitions for which ``predicate`` holds, by type.

        Raises:
            ValidationError: the predicate names a field that they lack, or the page begins behind what is no type.
        """
        ...

    def get_activity_definition(self, activity_type: str) -> JsonEntity:
        """Raises NotFoundError where there is none of this type."""
        ...

    def put_activity_definition(
        self, definition: ActivityDefinition, expected: Expected = ANY
    ) -> tuple[bool, JsonEntity]:
        """Add ``definition``, or replace the one of its type as a whole; tells whether it is new.

        Definitions that use it have its new schemas from now on; orchestrations keep the schemas that they began with.

        Raises:
            ValidationError: it is no definition that could be used.
            RefusedError: an active definition would not get what it needs any more.
            PreconditionFailedError: the one of its type is not in an expected version.
        """
        ...

    def delete_activity_definition(self, activity_type: str, expected: Expected = ANY) -> None:
        """Delete the definition of ``activity_type``.

        Raises:
            NotFoundError: there is none.
            InUseError: an active orchestration definition uses it, or an orchestration that has not ended.
            PreconditionFailedError: it is not in an expected version.
        """
        ...

    def select_orchestration_definitions(self, predicate: Predicate, page: Page) -> JsonPage:
        """One page of the orchestration definitions in force for which ``predicate`` holds, by orchestration type.

        Raises:
            ValidationError: the predicate names a field that they lack, or the page begins behind what is no type.
        """
        ...

    def get_template(self, template_ref: str) -> JsonEntity:
        """The definitions that have been made from one template and have not been replaced since, as an array.

        Its version rises whenever one of them comes or goes, whatever the reason.

        Raises:
            NotFoundError: there are none.
        """
        ...

    def add_template(self, template: OrchestrationTemplate) -> Sequence[FieldError]:
        """Put the template's definitions in force, all or none; gives what is doubtful. Runs keep what they began with.

        They take the place of those that other templates have posted for the same types, unless this one is not active, or
        has been put before. What the template has made of other types stays.

        Raises:
            ValidationError: a definition could not run; names all problems.
        """
        ...

    def put_template(self, template: OrchestrationTemplate, expected: Expected = ANY) -> PutTemplate:
        """Put the template's definitions in force, and no others of it, beside those of other templates.

        Raises:
            ValidationError: a definition could not run; names all problems.
            InUseError: a type goes, and an orchestration that was started from the template has not ended.
            PreconditionFailedError: the template is not in an expected version.
        """
        ...

    def set_active(self, template_ref: str, active: bool, expected: Expected = ANY) -> JsonEntity:
        """Let orchestrations start with the definitions of a template, or not; what has started goes on, and can be undone.

        Raises:
            NotFoundError: there are none.
            ValidationError: it was not active, and a definition could not run any more; names all problems.
            PreconditionFailedError: the template is not in an expected version.
        """
        ...

    def delete_template(self, template_ref: str, expected: Expected = ANY) -> None:
        """Delete the definitions that have been made from one template.

        Raises:
            NotFoundError: there are none.
            InUseError: an orchestration that was started from one of them has not ended.
            PreconditionFailedError: the template is not in an expected version.
        """
        ...

    def forget(self, most: int = 1000, unused_for: timedelta = UNUSED_FOR) -> int:
        """Forget up to ``most`` definitions that have not been in force for a while, and that no run has; tells how many."""
        ...


def activity_type_in_use(activity_type: str, users: Iterable[str]) -> InUseError:
    names = sorted(users)
    return InUseError(
        f"Bad request: activity type {activity_type!r} is referenced by an orchestration definition: {', '.join(names)}",
        {"usedBy": names},
    )


def activity_type_runs(activity_type: str, runs: Iterable[str]) -> InUseError:
    """``runs`` are some of the orchestrations that have not ended."""
    return InUseError(
        f"Bad request: orchestrations with activity type {activity_type!r} have not ended", {"usedBy": sorted(runs)}
    )


def template_in_use(template_ref: str, runs: Iterable[str]) -> InUseError:
    """``runs`` are some of the orchestrations that have not ended."""
    return InUseError(
        f"Bad request: orchestrations of template {template_ref!r} have not ended", {"usedBy": sorted(runs)}
    )
