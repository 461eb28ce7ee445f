"""What can be done with dataspace profiles."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Protocol

from cfm_core.errors import FieldError, NotFoundError, RecoverableError, ValidationError
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.tenancy.answers import JsonEntity
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import CredentialSpec, DataspaceProfile, DataspaceProfileId, cell_for
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import NewDataspaceProfile, NewDataspaceProfileDeployment
from cfm_core.tenancy.ids import check_key, is_id

_ATTEMPTS = 3


class DataspaceProfileStore(Protocol):
    """Keeps dataspace profiles with their deployments, and gives them as the API shows them."""

    def insert(self, profile: DataspaceProfile) -> JsonEntity: ...

    def find(self, profile_id: DataspaceProfileId) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        """Raises ValidationError: dataspace profiles have no field that the predicate names."""
        ...

    def delete(self, profile_id: DataspaceProfileId) -> bool:
        """Whether there was such a profile; its deployments go with it.

        Raises:
            ConflictError: participant profiles that are not disposed use it; its context says which.
        """
        ...

    def options(self, profile_id: DataspaceProfileId) -> Sequence[CellOption] | None:
        """Every cell; None where there is no such profile."""
        ...

    def deploy(self, profile_id: DataspaceProfileId, cell_id: CellId, deployment_id: str) -> bool:
        """Record the deployment unless the cell has one already; False where profile or active cell has gone."""
        ...


class DataspaceProfiles:
    """The use cases of dataspace profiles. An id that is none is unknown like any other: NotFoundError."""

    def __init__(self, store: DataspaceProfileStore) -> None:
        self._store = store

    def create(self, new: NewDataspaceProfile) -> tuple[DataspaceProfileId, JsonEntity]:
        profile = DataspaceProfile(
            DataspaceProfileId(str(uuid.uuid4())),
            tuple(new.dataspace_spec.protocol_stack),
            tuple(
                CredentialSpec(spec.id, spec.type, spec.issuer, spec.format, spec.role)
                for spec in new.dataspace_spec.credential_specs
            ),
            tuple(new.artifacts),
            new.properties,
        )
        return profile.id, self._store.insert(profile)

    def get(self, profile_id: str) -> JsonEntity:
        answer = self._store.find(DataspaceProfileId(profile_id)) if is_id(profile_id) else None
        if answer is None:
            raise NotFoundError("dataspace profile", profile_id)
        return answer

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        check_key(page)
        return self._store.select(parse(predicate), page)

    def delete(self, profile_id: str) -> None:
        """Raises ConflictError: a participant that is not disposed uses it."""
        if not is_id(profile_id) or not self._store.delete(DataspaceProfileId(profile_id)):
            raise NotFoundError("dataspace profile", profile_id)

    def deploy(self, profile_id: str, new: NewDataspaceProfileDeployment) -> None:
        """Deploy to a cell; a second time to the same cell changes nothing.

        Raises:
            ValidationError: the document names another profile than the path.
            NotFoundError: there is no such profile, or no such cell.
            RefusedError: the cell is not active, or none is named and there is not exactly one.
        """
        if new.profile_id not in ("", profile_id):
            problem = f"is {new.profile_id!r}, and the path says {profile_id!r}"
            raise ValidationError(
                f"Bad request: the document's profileId {problem}", [FieldError("/profileId", problem)]
            )
        known_id = DataspaceProfileId(profile_id)
        for _ in range(_ATTEMPTS):
            cells = self._store.options(known_id) if is_id(profile_id) else None
            if cells is None:
                raise NotFoundError("dataspace profile", profile_id)
            if self._store.deploy(known_id, cell_for(cells, new.cell_id).id, str(uuid.uuid4())):
                return
        raise RecoverableError("the cells are changing just now")
