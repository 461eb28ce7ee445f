"""What differs between our records and the services, for operators to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Service(StrEnum):
    """Where something is missing or superfluous."""

    RECORDS = "records"
    CONTROL_PLANE = "controlplane"
    IDENTITY_HUB = "identityhub"
    ISSUER_SERVICE = "issuerservice"
    SIGLET = "siglet"
    JWTLET = "jwtlet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a service lacks or has; what is not known of it is empty."""

    service: Service
    what: str
    """A few words, for example ``holder``."""
    detail: str = ""
    participant_context: str = ""
    did: str = ""
    participant_profile: str = ""
    tenant: str = ""

    def to_json(self) -> dict[str, str]:
        """The finding with camel-case names, without what is empty."""
        return {_camel(name): str(value) for name, value in asdict(self).items() if value}


@dataclass(slots=True)
class Report:
    """What was found at ``at``. Where ``not_looked_at`` says something, more may differ."""

    at: datetime
    participants: int = 0
    missing: list[Finding] = field(default_factory=list)
    superfluous: list[Finding] = field(default_factory=list)
    not_looked_at: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "at": self.at.isoformat(),
            "participants": self.participants,
            "missing": _all(self.missing),
            "superfluous": _all(self.superfluous),
            "notLookedAt": list(self.not_looked_at),
        }


def _all(findings: Sequence[Finding]) -> list[dict[str, str]]:
    return [one.to_json() for one in findings]


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
