"""What can be done with dataspace profiles."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cfm_core.entities import JsonEntity
from cfm_core.errors import FieldError, NotFoundError, RecoverableError, ValidationError
from cfm_core.query import JsonPage, Page, Predicate, parse
from cfm_core.tenancy.cells.model import CellId, CellOption
from cfm_core.tenancy.dataspace_profiles.model import CredentialSpec, DataspaceProfile, DataspaceProfileId, cells_for
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import NewDataspaceProfile, NewDataspaceProfileDeployment
from cfm_core.tenancy.ids import check_chosen_id, check_key, is_id
from cfm_core.tenancy.putting import created_or_replaced
from cfm_core.versions import ANY, Expected

_ATTEMPTS = 3


class DataspaceProfileStore(Protocol):
    """Keeps dataspace profiles with their deployments, and gives them as the API shows them.

    Where there is a ``check``, it is called with the profile's version while nobody else can change the profile; what it
    raises ends the matter.
    """

    def insert(self, profile: DataspaceProfile) -> JsonEntity | None:
        """Keep a new profile; None where its id is taken."""
        ...

    def find(self, profile_id: DataspaceProfileId) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page) -> JsonPage:
        """Raises ValidationError: dataspace profiles have no field that the predicate names."""
        ...

    def replace(self, profile: DataspaceProfile, check: Callable[[int], None]) -> JsonEntity | None:
        """Replace a profile but not its deployments; None where there is none with its id."""
        ...

    def delete(self, profile_id: DataspaceProfileId, expected: Expected) -> bool:
        """Whether there was such a profile in an expected version; its deployments go with it.

        Raises:
            ConflictError: participant profiles that are not disposed use it; its context says which.
        """
        ...

    def options(self, profile_id: DataspaceProfileId) -> Sequence[CellOption] | None:
        """Every cell; None where there is no such profile."""
        ...

    def deploy(
        self, profile_id: DataspaceProfileId, wanted: Mapping[CellId, str], check: Callable[[int], None]
    ) -> bool:
        """Record deployments to these cells, each with an id for a new one; a cell that has one keeps it.

        False, and nothing recorded, where the profile or one of the active cells has gone.
        """
        ...

    def deployments(self, profile_id: DataspaceProfileId, predicate: Predicate, page: Page) -> JsonPage:
        """Raises ValidationError: deployments have no field that the predicate names."""
        ...

    def undeploy(self, profile_id: DataspaceProfileId, deployment_id: str, check: Callable[[int], None]) -> bool:
        """Whether there was such a deployment of the profile.

        Raises:
            ConflictError: participant profiles that are not disposed use it; its context says which.
        """
        ...


class DataspaceProfiles:
    """The use cases of dataspace profiles. An id that is none is unknown like any other: NotFoundError."""

    def __init__(self, store: DataspaceProfileStore) -> None:
        self._store = store

    def create(self, new: NewDataspaceProfile) -> tuple[DataspaceProfileId, JsonEntity]:
        profile_id = DataspaceProfileId(str(uuid.uuid4()))
        profile = self._store.insert(_profile(profile_id, new))
        assert profile is not None, "a random id is taken"
        return profile_id, profile

    def put(self, profile_id: str, new: NewDataspaceProfile, expected: Expected = ANY) -> tuple[bool, JsonEntity]:
        """Create the profile, or replace it; tells whether it is new.

        Its deployments stay. Participants that use it get other credentials with their next deployment only.

        Raises:
            ValidationError: the id is not a UUID in lower case.
            PreconditionFailedError: it is not in an expected version.
        """
        check_chosen_id(profile_id)
        wanted = _profile(DataspaceProfileId(profile_id), new)
        return created_or_replaced(
            f"dataspace profile {profile_id}",
            expected,
            lambda: self._store.replace(wanted, _checked(profile_id, expected)),
            lambda: self._store.insert(wanted),
        )

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

    def delete(self, profile_id: str, expected: Expected = ANY) -> None:
        """Delete a dataspace profile with its deployments.

        Raises:
            ConflictError: a participant that is not disposed uses it.
            PreconditionFailedError: it is not in an expected version.
        """
        if not is_id(profile_id) or not self._store.delete(DataspaceProfileId(profile_id), expected):
            expected.check(f"dataspace profile {profile_id}", self.get(profile_id).version)
            raise RecoverableError(f"dataspace profile {profile_id} is changing just now")

    def deploy(self, profile_id: str, new: NewDataspaceProfileDeployment, expected: Expected = ANY) -> None:
        """Deploy to a cell, or to every active one where none is named; a second time to the same cell changes nothing.

        Raises:
            ValidationError: the document names another profile than the path.
            NotFoundError: there is no such profile, or no such cell.
            RefusedError: the cell is not active, or none is named and none is active.
            PreconditionFailedError: the profile is not in an expected version.
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
            wanted = {cell.id: str(uuid.uuid4()) for cell in cells_for(cells, new.cell_id)}
            if self._store.deploy(known_id, wanted, _checked(profile_id, expected)):
                return
        raise RecoverableError("the cells are changing just now")

    def deployments(self, profile_id: str, predicate: str, page: Page) -> JsonPage:
        """The deployments of a profile that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        self.get(profile_id)
        check_key(page)
        return self._store.deployments(DataspaceProfileId(profile_id), parse(predicate), page)

    def undeploy(self, profile_id: str, deployment_id: str, expected: Expected = ANY) -> None:
        """Take a dataspace profile from a cell.

        Raises:
            NotFoundError: there is no such profile, or it has no such deployment.
            ConflictError: a participant that is not disposed uses it on that cell.
            PreconditionFailedError: the profile is not in an expected version.
        """
        if not (
            is_id(profile_id)
            and is_id(deployment_id)
            and self._store.undeploy(DataspaceProfileId(profile_id), deployment_id, _checked(profile_id, expected))
        ):
            raise NotFoundError("deployment", deployment_id)


def _checked(profile_id: str, expected: Expected) -> Callable[[int], None]:
    return lambda version: expected.check(f"dataspace profile {profile_id}", version)


def _profile(profile_id: DataspaceProfileId, new: NewDataspaceProfile) -> DataspaceProfile:
    return DataspaceProfile(
        profile_id,
        tuple(new.dataspace_spec.protocol_stack),
        tuple(
            CredentialSpec(spec.id, spec.type, spec.issuer, spec.format, spec.role)
            for spec in new.dataspace_spec.credential_specs
        ),
        tuple(new.artifacts),
        new.properties,
    )
