"""The Tenant Manager's REST API, as far as agents read our records by it.

Source: CFM wire contract, sections 3, 5.3, 5.4 and 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cfm_core.clients.edc import required
from cfm_core.clients.http import Answer, HttpClient, segment
from cfm_core.contracts.orchestration import VPA_STATE
from cfm_core.contracts.participant import CONTEXT_ID, recorded
from cfm_core.errors import FatalError

PAGE = 200
ACTIVE, DISPOSED = "active", "disposed"

_BASE = "/api/v1alpha1"
_UNCOUNTED = {"Prefer": "count=none"}
_MOST_NAMED = 50
_LONGEST_LIST = 3500
"""Names and characters of a predicate's list; the API takes 64 and 4096 for all of a predicate."""


@dataclass(frozen=True, slots=True)
class VpaRecord:
    """A virtual participant agent of a participant."""

    type: str
    state: str
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ParticipantRecord:
    """A participant profile, as the Tenant Manager shows it."""

    id: str
    tenant_id: str
    did: str
    dataspace_profile_ids: tuple[str, ...]
    roles: Mapping[str, tuple[str, ...]]
    """By dataspace profile."""
    vpas: tuple[VpaRecord, ...]
    left: Mapping[str, Any]
    """What its deployment has left: ``participantContextId``, ``holderPid``, and more."""

    @property
    def context(self) -> str | None:
        """Its participant context's id; None where no deployment has left one."""
        return recorded({VPA_STATE: self.left}, CONTEXT_ID)

    @property
    def is_active(self) -> bool:
        return bool(self.vpas) and all(vpa.state == ACTIVE for vpa in self.vpas)

    @property
    def is_disposed(self) -> bool:
        return bool(self.vpas) and all(vpa.state == DISPOSED for vpa in self.vpas)


@dataclass(frozen=True, slots=True)
class NeededCredential:
    """A credential that a dataspace profile asks for; without a ``role`` of everybody. ``id`` is the issuer's name for it."""

    id: str
    type: str
    format: str
    issuer_did: str
    role: str = ""


class TenantManager:
    """Our records of participants and dataspaces.

    Args:
        url: without ``/api``.
        token: gives the token as it is now; empty where none is asked for.
    """

    def __init__(self, http: HttpClient, url: str, token: Callable[[], str]) -> None:
        self._http = http
        self._url = url + _BASE
        self._token = token

    def participants(self, predicate: str = "true", *, after: str = "", limit: int = PAGE) -> list[ParticipantRecord]:
        """A page of the participant profiles of all tenants that a predicate holds for, in the order of their ids.

        Args:
            after: the id behind which the page begins, or any UUID that could be one.
        """
        body = {"predicate": predicate, "limit": limit} | ({"after": after} if after else {})
        answer = self._send("POST", "/participant-profiles/query", body)
        return [_participant(one, answer) for one in answer.objects()]

    def all_participants(self, predicate: str) -> Iterator[ParticipantRecord]:
        """All participant profiles that a predicate holds for, in the order of their ids."""
        after = ""
        while page := self.participants(predicate, after=after):
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].id

    def find_participant(self, tenant_id: str, profile_id: str) -> ParticipantRecord | None:
        """One participant profile as it is now; None where it is gone."""
        path = f"/tenants/{segment(tenant_id)}/participant-profiles/{segment(profile_id)}"
        answer = self._send("GET", path, expect=404)
        return None if answer.status == 404 else _participant(answer.object(), answer)

    def with_dids(self, dids: Iterable[str]) -> Iterator[ParticipantRecord]:
        """The participant profiles that have one of these DIDs."""
        return self._with("identifier", dids)

    def with_contexts(self, contexts: Iterable[str]) -> Iterator[ParticipantRecord]:
        """The participant profiles whose deployment has left one of these participant contexts."""
        return self._with(f"properties.`{VPA_STATE}`.{CONTEXT_ID}", contexts)

    def needed_credentials(self) -> dict[str, list[NeededCredential]]:
        """What each dataspace profile asks for, by its id."""
        answer = self._send("GET", "/dataspace-profiles")
        return {
            required(one, "id", answer): [
                _needed(spec) for spec in (one.get("dataspaceSpec") or {}).get("credentialSpecs") or ()
            ]
            for one in answer.objects()
        }

    def _with(self, path: str, values: Iterable[str]) -> Iterator[ParticipantRecord]:
        for some in _lists(values):
            yield from self.all_participants(f"{path} IN ({some})")

    def _send(self, method: str, path: str, body: Any = None, *, expect: int = 0) -> Answer:
        return self._http.send(
            method, self._url + path, json=body, bearer=self._token(), headers=_UNCOUNTED, expect=(expect,)
        )


def _lists(values: Iterable[str]) -> Iterator[str]:
    """``values`` as literals, in as many lists as predicates of the allowed length need."""
    literals: list[str] = []
    length = 0
    for value in sorted(set(values)):
        literal = "'" + value.replace("'", "''") + "'"
        if literals and (len(literals) == _MOST_NAMED or length + len(literal) > _LONGEST_LIST):
            yield ", ".join(literals)
            literals, length = [], 0
        literals.append(literal)
        length += len(literal) + 2
    if literals:
        yield ", ".join(literals)


def _participant(document: Mapping[str, Any], answer: Answer) -> ParticipantRecord:
    try:
        left = (document.get("properties") or {}).get(VPA_STATE)
        return ParticipantRecord(
            id=required(document, "id", answer),
            tenant_id=required(document, "tenantId", answer),
            did=required(document, "identifier", answer),
            dataspace_profile_ids=tuple(document.get("dataspaceProfileIds") or ()),
            roles={name: tuple(roles) for name, roles in (document.get("participantRoles") or {}).items()},
            vpas=tuple(
                VpaRecord(one["type"], one["state"], one.get("properties") or {}) for one in document.get("vpas") or ()
            ),
            left=left if isinstance(left, dict) else {},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise FatalError(f"{answer.call} answered with something that is no participant profile: {error!r}") from None


def _needed(spec: Mapping[str, Any]) -> NeededCredential:
    return NeededCredential(
        id=str(spec.get("id") or ""),
        type=str(spec.get("type") or ""),
        format=str(spec.get("format") or ""),
        issuer_did=str(spec.get("issuer") or ""),
        role=str(spec.get("role") or ""),
    )
