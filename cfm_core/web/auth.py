"""Who is calling, and what for: principals and scopes.

Source: CFM wire contract, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from cfm_core.errors import ForbiddenError

TM_READ = "tenant-manager-api:read"
TM_WRITE = "tenant-manager-api:write"
PM_READ = "provision-manager-api:read"
PM_WRITE = "provision-manager-api:write"
ALL_SCOPES = (TM_READ, TM_WRITE, PM_READ, PM_WRITE)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever calls, as a verified token names them.

    Two issuers may name two people alike: only ``issuer`` and ``subject`` together say who somebody is.
    """

    subject: str
    scopes: frozenset[str] | None
    """None for somebody who may do everything."""
    issuer: str = ""
    """Empty where no token is asked for."""
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)
    """All that the token says, for reading only."""

    def require(self, scope: str) -> None:
        """Raises ForbiddenError unless this principal has ``scope``."""
        if self.scopes is not None and scope not in self.scopes:
            raise ForbiddenError(f"Access not granted: required scope '{scope}' not present", scope)


class Authenticator(Protocol):
    """Turns the Authorization header of a request into a principal."""

    def authenticate(self, authorization: str | None) -> Principal:
        """Raises UnauthorizedError when there is no token or it is not accepted."""
        ...

    def remembered(self, authorization: str | None) -> Principal | None:
        """The same where it costs next to nothing; else None."""
        ...


class Anybody:
    """Accepts everybody, for everything."""

    def authenticate(self, authorization: str | None) -> Principal:
        return Principal("anonymous", None)

    def remembered(self, authorization: str | None) -> Principal | None:
        return self.authenticate(authorization)
