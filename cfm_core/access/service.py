"""What whoever calls may do: users by their rights, machine clients by the roles that their token carries, others all."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol, Self, runtime_checkable

from cfm_core.access.model import EVERYTHING, Access, Right

BELIEVED = timedelta(seconds=2)
"""For so long nobody looks whether rights have changed."""
_REMEMBERED = 4096
_NOTHING = Access(())
_ABSENT = object()


class Caller(Protocol):
    """Whoever calls, as a verified token names them."""

    @property
    def subject(self) -> str: ...

    @property
    def issuer(self) -> str: ...

    @property
    def claims(self) -> Mapping[str, Any]: ...


@runtime_checkable
class Bounded(Protocol):
    """A service that shows and changes only what somebody may see and change."""

    def within(self, access: Access) -> Self:
        """The same service for somebody who has ``access``."""
        ...


class Who(StrEnum):
    """Whether somebody is a user."""

    USER = "user"
    FORMER = "former"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored of somebody."""

    version: int
    """Rises with every change of users and roles."""
    who: Who
    rights: Sequence[Right]
    """Those of the user, or for one who is none those of the roles asked for."""


class RightStore(Protocol):
    """Knows the rights of users and roles."""

    def find(self, issuer: str, subject: str, roles: Sequence[str]) -> Found:
        """What is stored of whom a token of ``issuer`` calls ``subject``, and carries the names of ``roles``."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    version: int
    access: Access


class Accesses:
    """What callers may do, remembered until users or roles change, which is looked for once in ``believed``.

    Args:
        user_claim: the claim that names a user; whoever has it has to be one. Empty: the subject may be that of a user.
        roles_claim: the claim with names of roles; dots lead into objects. Empty: no token carries any.
    """

    def __init__(
        self,
        store: RightStore,
        *,
        user_claim: str = "",
        roles_claim: str = "",
        believed: timedelta = BELIEVED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._user_claim = user_claim
        self._roles_claim = roles_claim
        self._believed = believed.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._version = -1
        self._looked_at = float("-inf")
        self._known: OrderedDict[tuple[str, str, tuple[str, ...] | None], _Known] = OrderedDict()

    def of(self, caller: Caller) -> Access:
        """What ``caller`` may do.

        Raises:
            RecoverableError: it is not known, and cannot be asked now.
        """
        name = self._name_of(caller)
        if name is None:
            return _NOTHING
        roles = self._roles_of(caller) if self._roles_claim else None
        if not name and roles is None:
            return EVERYTHING
        key = (caller.issuer, name, roles)
        known = self._known.get(key)
        now = self._clock()
        if known is not None and known.version == self._version and now < self._looked_at + self._believed:
            return known.access
        found = self._store.find(caller.issuer, name, roles or ())
        if known is None or known.version != found.version:
            known = _Known(found.version, self._access_of(found, roles))
        self._remember(key, known, now)
        return known.access

    def forget(self) -> None:
        """Look again before the next answer: this process has changed users or roles."""
        with self._lock:
            self._looked_at = float("-inf")

    def _access_of(self, found: Found, roles: tuple[str, ...] | None) -> Access:
        if found.who is Who.USER:
            return Access(found.rights)
        if found.who is Who.FORMER:
            return _NOTHING
        if roles is not None:
            return Access(found.rights)
        return _NOTHING if self._user_claim else EVERYTHING

    def _remember(self, key: tuple[str, str, tuple[str, ...] | None], known: _Known, at: float) -> None:
        with self._lock:
            # An answer that was overtaken by a later one says nothing of now.
            if known.version < self._version and at <= self._looked_at:
                return
            self._version = known.version
            self._looked_at = max(self._looked_at, at)
            self._known[key] = known
            self._known.move_to_end(key)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def _name_of(self, caller: Caller) -> str | None:
        """Whom the token names; empty for a machine, None where the claim is there and names nobody."""
        if not self._user_claim:
            return caller.subject
        if self._user_claim not in caller.claims:
            return ""
        named = caller.claims[self._user_claim]
        return named if isinstance(named, str) and named else None

    def _roles_of(self, caller: Caller) -> tuple[str, ...] | None:
        """The roles that a token carries, in one order; None where it has no such claim."""
        found = _claim(caller.claims, self._roles_claim)
        if found is _ABSENT:
            return None
        names = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
        return tuple(sorted({name for name in names if isinstance(name, str)}))


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by a path into objects; ``_ABSENT`` where there is none, which is not what is null."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for key in path.split("."):
        found = found.get(key, _ABSENT) if isinstance(found, Mapping) else _ABSENT
    return found
