"""What can be done with dataspace profiles."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cfm_core.access.model import ALL, EVERYTHING, Access, Action, Bound, Bounds, Resource, refused, without_names
from cfm_core.entities import JsonEntity
from cfm_core.errors import ClientError, ConflictError, FieldError, NotFoundError, RecoverableError, ValidationError
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

    What is not within the bounds is not there: what is deployed to other cells as well, or to none, belongs to no cell.
    Where there is a ``check``, it is called with the profile's version while nobody else can change the profile; what it
    raises ends the matter.
    """

    def insert(self, profile: DataspaceProfile) -> JsonEntity | None:
        """Keep a new profile; None where its id is taken."""
        ...

    def find(self, profile_id: DataspaceProfileId, bounds: Bounds = ALL) -> JsonEntity | None: ...

    def select(self, predicate: Predicate, page: Page, bounds: Bounds = ALL) -> JsonPage:
        """Raises ValidationError: dataspace profiles have no field that the predicate names."""
        ...

    def replace(
        self, profile: DataspaceProfile, check: Callable[[int], None], bounds: Bounds = ALL
    ) -> JsonEntity | None:
        """Replace a profile but not its deployments; None where there is none with its id."""
        ...

    def delete(self, profile_id: DataspaceProfileId, expected: Expected, bounds: Bounds = ALL) -> bool:
        """Whether there was such a profile in an expected version; its deployments go with it.

        Raises:
            ConflictError: participant profiles that are not disposed use it; its context says which.
        """
        ...

    def options(self, profile_id: DataspaceProfileId, bounds: Bounds = ALL) -> Sequence[CellOption] | None:
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

    def undeploy(
        self,
        profile_id: DataspaceProfileId,
        deployment_id: str,
        check: Callable[[int], None],
        seen: Bounds = ALL,
        bounds: Bounds = ALL,
    ) -> bool:
        """Whether there was such a deployment, on a cell within ``bounds``, of such a profile within ``seen``.

        Raises:
            ConflictError: participant profiles that are not disposed use it; its context says which.
        """
        ...


class DataspaceProfiles:
    """The use cases of dataspace profiles, for somebody who has ``access``.

    An id that is none is unknown like any other; see ``Tenants``. Deploying is bounded by the cell: to one's own cell one may
    deploy what one may see.
    """

    def __init__(self, store: DataspaceProfileStore, access: Access = EVERYTHING) -> None:
        self._store = store
        self._access = access

    def within(self, access: Access) -> DataspaceProfiles:
        """See ``Bounded``."""
        return DataspaceProfiles(self._store, access)

    def create(self, new: NewDataspaceProfile) -> tuple[DataspaceProfileId, JsonEntity]:
        self._access.require_all(Action.CREATE, Resource.DATASPACE_PROFILE)
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
        bounds = self._access.require(Action.UPDATE, Resource.DATASPACE_PROFILE)
        check_chosen_id(profile_id)
        wanted = _profile(DataspaceProfileId(profile_id), new)

        def created() -> JsonEntity | None:
            if not self._access.bounds(Action.CREATE, Resource.DATASPACE_PROFILE).unlimited:
                raise self._why_not(profile_id, Action.UPDATE)
            kept = self._store.insert(wanted)
            if kept is None and not bounds.unlimited:
                raise refused(Action.UPDATE, Resource.DATASPACE_PROFILE)
            return kept

        return created_or_replaced(
            f"dataspace profile {profile_id}",
            expected,
            lambda: self._store.replace(wanted, _checked(profile_id, expected), bounds),
            created,
        )

    def get(self, profile_id: str) -> JsonEntity:
        return self._get(profile_id, Action.READ)

    def select(self, predicate: str, page: Page) -> JsonPage:
        """Those that ``predicate`` holds for, by id.

        Raises:
            ValidationError: the predicate or the page cannot be read.
        """
        bounds = self._access.require(Action.READ, Resource.DATASPACE_PROFILE)
        check_key(page)
        return self._store.select(parse(predicate), page, bounds)

    def delete(self, profile_id: str, expected: Expected = ANY) -> None:
        """Delete a dataspace profile with its deployments.

        Raises:
            ConflictError: a participant that is not disposed uses it.
            PreconditionFailedError: it is not in an expected version.
        """
        bounds = self._access.require(Action.DELETE, Resource.DATASPACE_PROFILE)
        known_id = DataspaceProfileId(profile_id)
        if not is_id(profile_id) or not self._told(lambda: self._store.delete(known_id, expected, bounds)):
            expected.check(f"dataspace profile {profile_id}", self._get(profile_id, Action.DELETE).version)
            raise RecoverableError(f"dataspace profile {profile_id} is changing just now")

    def deploy(self, profile_id: str, new: NewDataspaceProfileDeployment, expected: Expected = ANY) -> None:
        """Deploy to a cell, or to every active one where none is named; a second time to the same cell changes nothing.

        Raises:
            ValidationError: the document names another profile than the path.
            NotFoundError: there is no such profile, or no such cell.
            RefusedError: the cell is not active, or none is named and none is active.
            PreconditionFailedError: the profile is not in an expected version.
        """
        bounds = self._access.require(Action.DEPLOY, Resource.DATASPACE_PROFILE)
        seen = bounds | self._access.bounds(Action.READ, Resource.DATASPACE_PROFILE)
        if new.profile_id not in ("", profile_id):
            problem = f"is {new.profile_id!r}, and the path says {profile_id!r}"
            raise ValidationError(
                f"Bad request: the document's profileId {problem}", [FieldError("/profileId", problem)]
            )
        known_id = DataspaceProfileId(profile_id)
        for _ in range(_ATTEMPTS):
            cells = self._store.options(known_id, seen) if is_id(profile_id) else None
            if cells is None:
                raise NotFoundError("dataspace profile", profile_id)
            cells = [cell for cell in cells if bounds.allow(Bound(cell_id=cell.id))]
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
        bounds = self._access.require(Action.DISPOSE, Resource.DATASPACE_PROFILE)
        seen = bounds | self._access.bounds(Action.READ, Resource.DATASPACE_PROFILE)
        known_id, check = DataspaceProfileId(profile_id), _checked(profile_id, expected)
        if not (
            is_id(profile_id)
            and is_id(deployment_id)
            and self._told(lambda: self._store.undeploy(known_id, deployment_id, check, seen, bounds))
        ):
            raise NotFoundError("deployment", deployment_id)

    def _get(self, profile_id: str, action: Action) -> JsonEntity:
        """The profile, if one may do ``action`` with it."""
        found = self._find(profile_id, self._access.require(action, Resource.DATASPACE_PROFILE))
        if found is None:
            raise self._why_not(profile_id, action)
        return found

    def _find(self, profile_id: str, bounds: Bounds) -> JsonEntity | None:
        return self._store.find(DataspaceProfileId(profile_id), bounds) if is_id(profile_id) else None

    def _why_not(self, profile_id: str, action: Action) -> ClientError:
        unknown = NotFoundError("dataspace profile", profile_id)
        return self._access.why_not(
            action, Resource.DATASPACE_PROFILE, unknown, lambda reading: self._find(profile_id, reading) is not None
        )

    def _told(self, change: Callable[[], bool]) -> bool:
        """What ``change`` gives. Who may not see all that uses a dataspace profile is not told what does."""
        try:
            return change()
        except ConflictError as error:
            raise without_names(error, self._access, Resource.PARTICIPANT_PROFILE) from None


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
