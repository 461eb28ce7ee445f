"""What can be done with definitions, whatever stores them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from cfm_core.errors import ConflictError, ValidationError
from cfm_core.provisioning.definitions.model import ActivityDefinition, OrchestrationDefinition, OrchestrationTemplate


class InUseError(ConflictError):
    """Something else still needs what was to be deleted. A 400, as the contract has it."""

    status = 400


class Definitions(Protocol):
    """Activity definitions by type, and orchestration definitions, of which each type has one at a time."""

    def list_activity_definitions(self) -> list[ActivityDefinition]:
        """All of them, by type."""
        ...

    def put_activity_definition(self, definition: ActivityDefinition) -> None:
        """Add ``definition``, or replace the one of its type as a whole.

        Raises:
            ValidationError: it is no definition that could be used.
        """
        ...

    def delete_activity_definition(self, activity_type: str) -> None:
        """Delete the definition of ``activity_type``.

        Raises:
            NotFoundError: there is none.
            InUseError: an orchestration definition uses it.
        """
        ...

    def list_orchestration_definitions(self) -> list[OrchestrationDefinition]:
        """All of them, by orchestration type."""
        ...

    def get_template(self, template_ref: str) -> list[OrchestrationDefinition]:
        """The definitions that have been made from one template and have not been replaced since.

        Raises:
            NotFoundError: there are none.
        """
        ...

    def put_template(self, template: OrchestrationTemplate) -> None:
        """Make the template's definitions those of their types, all or none. Runs keep what they began with.

        Raises:
            ValidationError: a definition could not run; names all problems.
        """
        ...

    def delete_template(self, template_ref: str) -> None:
        """Delete the definitions that have been made from one template.

        Raises:
            NotFoundError: there are none.
            InUseError: an orchestration that was started from one of them has not ended.
        """
        ...


def activity_type_in_use(activity_type: str, users: Iterable[str]) -> InUseError:
    names = sorted(users)
    return InUseError(
        f"Bad request: activity type {activity_type!r} is referenced by an orchestration definition: {', '.join(names)}",
        {"usedBy": names},
    )


def template_in_use(template_ref: str) -> InUseError:
    return InUseError(f"Bad request: orchestrations of template {template_ref!r} have not ended")


def check_text(text: str) -> None:
    """Raises ValidationError for a text that no store could hold."""
    if "\0" in text:
        raise ValidationError("a text contains a NUL character or is not valid Unicode")
