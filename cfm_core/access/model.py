"""Rights, what they are bounded to, and what somebody may do who has some.

Source: CFM system architecture, "RBAC: Users, Roles, and Rights".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from cfm_core.errors import ClientError, ConflictError, FatalError, ForbiddenError, NotFoundError


class Action(StrEnum):
    """What a right allows."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    DEPLOY = "deploy"
    DISPOSE = "dispose"
    ANY = "*"


class Resource(StrEnum):
    """The kind of what a right allows something with."""

    TENANT = "tenant"
    PARTICIPANT_PROFILE = "participantProfile"
    VPA = "vpa"
    CELL = "cell"
    DATASPACE_PROFILE = "dataspaceProfile"
    USER = "user"
    ROLE = "role"
    QUERY_INDEX = "queryIndex"
    ACTIVITY_DEFINITION = "activityDefinition"
    ACTIVITY_TYPE = "activityType"
    ORCHESTRATION_DEFINITION = "orchestrationDefinition"
    ORCHESTRATION = "orchestration"
    SCHEDULE = "schedule"
    DEAD_LETTER = "deadLetter"
    AUDIT = "audit"
    ANY = "*"


Need = tuple[Action, Resource]
"""What somebody has to have a right to do, with something of a kind; ``Resource.ANY`` stands for whatever kind."""


def need_of(text: str) -> Need:
    """What ``text``, such as ``read tenant``, names.

    Raises:
        FatalError: there is no such action, or no such kind.
    """
    action, _, resource = text.partition(" ")
    try:
        return Action(action), Resource(resource)
    except ValueError:
        raise FatalError(f"no right is {text!r}: it has to be an action and a kind") from None


@dataclass(frozen=True, slots=True)
class Bound:
    """What belongs to everything whose id is given; without any id, everything."""

    tenant_id: str = ""
    participant_profile_id: str = ""
    vpa_id: str = ""
    cell_id: str = ""

    def contains(self, other: Bound) -> bool:
        """Whether what belongs to ``other`` belongs to this as well, as far as the ids alone tell."""
        return all(
            not mine or mine == theirs
            for mine, theirs in (
                (self.tenant_id, other.tenant_id),
                (self.participant_profile_id, other.participant_profile_id),
                (self.vpa_id, other.vpa_id),
                (self.cell_id, other.cell_id),
            )
        )


UNBOUNDED = Bound()


@dataclass(frozen=True, slots=True)
class Right:
    """An action on all resources of a kind, or on those that belong to everything whose id is given.

    Nobody looks whether that is there: a right may be given before what it is bounded to, and may outlive it.
    """

    action: Action
    resource: Resource
    tenant_id: str = ""
    participant_profile_id: str = ""
    vpa_id: str = ""
    cell_id: str = ""

    @property
    def bound(self) -> Bound:
        return Bound(self.tenant_id, self.participant_profile_id, self.vpa_id, self.cell_id)

    def __str__(self) -> str:
        """For messages: ``read tenant of tenantId t``."""
        ids = [f"{name} {key}" for name, key, _ in _bounds(self.bound) if key]
        return f"{self.action} {self.resource}" + (f" of {', '.join(ids)}" if ids else "")


_WITHIN_A_PROFILE = {Resource.PARTICIPANT_PROFILE, Resource.VPA, Resource.ORCHESTRATION, Resource.AUDIT}
_WITHIN_A_TENANT = {Resource.TENANT, *_WITHIN_A_PROFILE}
_WITHIN_A_CELL = {Resource.CELL, Resource.DATASPACE_PROFILE, Resource.PARTICIPANT_PROFILE, Resource.VPA}


def _bounds(bound: Bound) -> tuple[tuple[str, str, set[Resource]], ...]:
    """Name in JSON, id, and the kinds of which something can belong to it."""
    return (
        ("tenantId", bound.tenant_id, _WITHIN_A_TENANT),
        ("participantProfileId", bound.participant_profile_id, _WITHIN_A_PROFILE),
        ("vpaId", bound.vpa_id, {Resource.VPA}),
        ("cellId", bound.cell_id, _WITHIN_A_CELL),
    )


def pointless_bounds(right: Right) -> tuple[str, ...]:
    """The bounds, by their names in JSON, to which nothing of the right's kind belongs: it would allow nothing."""
    return tuple(
        name for name, key, kinds in _bounds(right.bound) if key and right.resource not in {*kinds, Resource.ANY}
    )


@dataclass(frozen=True, slots=True)
class Bounds:
    """What of a kind somebody may do something with: all that belongs to one of ``alternatives``.

    What has several parts, such as the VPAs of a profile, belongs to a cell or a VPA only with all of them: each has to
    belong to one of the alternatives. So nobody sees, or disposes, by the way what is not theirs.
    """

    alternatives: tuple[Bound, ...]

    @property
    def unlimited(self) -> bool:
        return self.alternatives == (UNBOUNDED,)

    @property
    def nothing(self) -> bool:
        return not self.alternatives

    def tenants(self) -> list[str]:
        """The tenants with all of which one may do it."""
        return [one.tenant_id for one in self.alternatives if one.tenant_id and one == Bound(one.tenant_id)]

    def participant_profiles(self) -> list[str]:
        """The participant profiles with which one may do it, whatever tenants they belong to."""
        alone = [(one.participant_profile_id, one) for one in self.alternatives if one.participant_profile_id]
        return [key for key, one in alone if one == Bound(participant_profile_id=key)]

    def cells(self) -> list[str]:
        """The cells with all of which one may do it."""
        return [one.cell_id for one in self.alternatives if one.cell_id and one == Bound(cell_id=one.cell_id)]

    def others(self) -> tuple[Bound, ...]:
        """The alternatives that are neither a tenant alone nor a participant profile alone."""
        return tuple(
            one
            for one in self.alternatives
            if one.vpa_id or one.cell_id or bool(one.tenant_id) is bool(one.participant_profile_id)
        )

    def allow(self, part: Bound) -> bool:
        """Whether what belongs to ``part``, of which every id is known, belongs to one of the alternatives."""
        return any(one.contains(part) for one in self.alternatives)

    def __or__(self, other: Bounds) -> Bounds:
        return bounds_of((*self.alternatives, *other.alternatives))


def bounds_of(alternatives: Iterable[Bound]) -> Bounds:
    found = tuple(dict.fromkeys(alternatives))
    return ALL if UNBOUNDED in found else Bounds(found)


ALL = Bounds((UNBOUNDED,))
NOTHING = Bounds(())


class Access:
    """What somebody may do who has ``rights``. One who may do nothing with a kind is told so; all else has bounds."""

    def __init__(self, rights: Iterable[Right]) -> None:
        self.rights = tuple(dict.fromkeys(rights))
        self._known: dict[tuple[Action, Resource], Bounds] = {}
        self.everything = Right(Action.ANY, Resource.ANY) in self.rights
        """Whether nothing at all is refused."""

    def bounds(self, action: Action, resource: Resource) -> Bounds:
        """With what of a kind one may do something; ``Resource.ANY``: with what of any kind."""
        key = action, resource
        if (known := self._known.get(key)) is None:
            self._known[key] = known = bounds_of(
                right.bound
                for right in self.rights
                if right.action in {action, Action.ANY}
                and any(_is_about(right, kind) for kind in _kinds(action, resource))
            )
        return known

    def require(self, action: Action, resource: Resource) -> Bounds:
        """The same.

        Raises:
            ForbiddenError: with nothing.
        """
        found = self.bounds(action, resource)
        if found.nothing:
            raise refused(action, resource)
        return found

    def require_all(self, action: Action, resource: Resource) -> None:
        """Raises ForbiddenError: one may not do it with everything of a kind."""
        if not self.bounds(action, resource).unlimited:
            raise refused(action, resource)

    def why_not(
        self, action: Action, resource: Resource, unknown: NotFoundError, is_seen: Callable[[Bounds], bool]
    ) -> ClientError:
        """Why nothing was found to do something with: one may only see it, or for all that one may know it is not there.

        Args:
            is_seen: whether it is within the bounds of what one may see.
        """
        reading = self.bounds(Action.READ, resource)
        if self.bounds(action, resource).unlimited or reading.nothing or not is_seen(reading):
            return unknown
        return refused(action, resource)

    def check_granted(self, rights: Iterable[Right]) -> None:
        """Look at rights that somebody is to have because of whoever has this access.

        Raises:
            ForbiddenError: one of them allows more than this access does.
        """
        for right in rights:
            if not self._has(right):
                raise ForbiddenError(f"Access not granted: nobody can give a right that they do not have: {right}")

    def _has(self, right: Right) -> bool:
        """Whether one right allows all that ``right`` does, as far as the ids alone tell."""
        return any(
            held.action in {right.action, Action.ANY}
            and held.resource in {right.resource, Resource.ANY}
            and held.bound.contains(right.bound)
            for held in self.rights
        )


EVERYTHING = Access([Right(Action.ANY, Resource.ANY)])
"""Of clients that are no users, who may do what their scopes say."""


def refused(action: Action, resource: Resource) -> ForbiddenError:
    return ForbiddenError(f"Access not granted: no right to {action} {resource}")


def without_names(error: ConflictError, access: Access, *kinds: Resource) -> ConflictError:
    """``error`` without those whose use is the reason, unless whoever asked may see all of these kinds."""
    if "usedBy" not in error.context or all(access.bounds(Action.READ, kind).unlimited for kind in kinds):
        return error
    return ConflictError("it is in use", {name: value for name, value in error.context.items() if name != "usedBy"})


def _kinds(action: Action, resource: Resource) -> tuple[Resource, ...]:
    """The kinds of which a right allows something with one: VPAs are seen, deployed and disposed with their profile."""
    if resource is Resource.PARTICIPANT_PROFILE and action in {Action.READ, Action.DEPLOY, Action.DISPOSE}:
        return resource, Resource.VPA
    return (resource,)


def _is_about(right: Right, resource: Resource) -> bool:
    """Whether a right allows something with some of a kind."""
    if Resource.ANY not in (right.resource, resource):
        return right.resource is resource
    if resource is Resource.ANY:
        return True
    return all(resource in kinds for _, key, kinds in _bounds(right.bound) if key)
