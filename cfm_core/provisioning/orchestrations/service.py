"""What can be done with orchestrations from outside, whatever stores them."""

from __future__ import annotations

from typing import Protocol

from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.errors import ValidationError
from cfm_core.provisioning.orchestrations.model import Attempt, EntryPage, Orchestration
from cfm_core.query import Page, Predicate


class Orchestrations(Protocol):
    """All runs, ended ones included."""

    def start(self, manifest: OrchestrationManifest) -> Orchestration:
        """Start an orchestration; a known id gives the orchestration that has it, whatever else the manifest says.

        Raises:
            ValidationError: nobody has defined this orchestration type, or the manifest cannot be stored.
        """
        ...

    def get(self, orchestration_id: str) -> Orchestration:
        """Raises NotFoundError where there is none with this id."""
        ...

    def history(self, orchestration_id: str) -> list[Attempt]:
        """Every attempt at every activity that has ended, in the order of their ends.

        Raises:
            NotFoundError: there is no orchestration with this id.
        """
        ...

    def query(self, predicate: Predicate, page: Page) -> EntryPage:
        """One page of the orchestrations for which ``predicate`` holds, by id.

        Raises:
            ValidationError: the predicate names a field that orchestrations lack.
        """
        ...


def unknown_type(orchestration_type: str) -> ValidationError:
    return ValidationError(f"Bad request: there is no orchestration type {orchestration_type!r}")
