"""What can be done with definitions, whatever stores them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from cfm_core.entities import JsonEntity
from cfm_core.errors import ConflictError
from cfm_core.provisioning.definitions.model import ActivityDefinition, OrchestrationTemplate
from cfm_core.query import JsonPage, Page, Predicate
from cfm_core.versions import ANY, Expected


class InUseError(ConflictError):
    """Something else still needs what was to be deleted. A 400, as the contract has it."""

    status = 400


class Definitions(Protocol):
    """Activity definitions by type, and orchestration definitions, of which each type has one at a time."""

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

        Raises:
            ValidationError: it is no definition that could be used.
            PreconditionFailedError: the one of its type is not in an expected version.
        """
        ...

    def delete_activity_definition(self, activity_type: str, expected: Expected = ANY) -> None:
        """Delete the definition of ``activity_type``.

        Raises:
            NotFoundError: there is none.
            InUseError: an orchestration definition uses it.
            PreconditionFailedError: it is not in an expected version.
        """
        ...

    def select_orchestration_definitions(self, predicate: Predicate, page: Page) -> JsonPage:
        """One page of the orchestration definitions for which ``predicate`` holds, by orchestration type.

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

    def add_template(self, template: OrchestrationTemplate) -> None:
        """Make the template's definitions those of their types, all or none. Runs keep what they began with.

        What the template has made of other types stays.

        Raises:
            ValidationError: a definition could not run; names all problems.
        """
        ...

    def put_template(self, template: OrchestrationTemplate, expected: Expected = ANY) -> tuple[bool, JsonEntity]:
        """Make the template's definitions those of their types, and the only ones of the template; tells whether it is new.

        Raises:
            ValidationError: a definition could not run; names all problems.
            InUseError: a type goes, and an orchestration that was started from the template has not ended.
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


def activity_type_in_use(activity_type: str, users: Iterable[str]) -> InUseError:
    names = sorted(users)
    return InUseError(
        f"Bad request: activity type {activity_type!r} is referenced by an orchestration definition: {', '.join(names)}",
        {"usedBy": names},
    )


def template_in_use(template_ref: str, runs: Iterable[str]) -> InUseError:
    """``runs`` are some of the orchestrations that have not ended."""
    return InUseError(
        f"Bad request: orchestrations of template {template_ref!r} have not ended", {"usedBy": sorted(runs)}
    )
