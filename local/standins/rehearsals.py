"""Rehearsals: participants whose DID says what goes wrong with them, for whoever has the managers' API alone.

    did:web:fail-NAME...     what makes the participant known there is refused, with 403
    did:web:slow-NAME...     every call about the participant takes a second longer there
    did:web:flaky-NAME...    every call about the participant is answered 503 there when it comes for the first time

NAME is that of an activity type without ``-activity``, and may be left out: then it is all of them. The NAME ``issuance``
can only fail: the request for credentials is taken, and the issuer refuses it some time later. jwtlet is told no DID, so
nothing of it can be rehearsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import jwt

from local.standins.faults import Fault
from local.standins.http import Request

SLOW_SECONDS = 1.0
_DID = re.compile(r"did:web:(fail|slow|flaky)(?:-([a-z]+)(?![a-z0-9])|(?![a-z0-9-]))")
_IN_BODY = re.compile(_DID.pattern.encode())


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of an activity: to which service, and which of them makes the participant known there."""

    service: str
    method: str
    path: str
    """An expression that is looked for in the path of that one call."""
    every: str = ""
    """The same for every call of the activity; empty: it is alone with its service."""


CALLS = {
    "edcv": Calls("controlplane", "POST", "/v5beta/participants$"),
    "identityhub": Calls("identityhub", "POST", "/v1beta/participants$", every="^(?!.*/credentials/)"),
    "registration": Calls("issuerservice", "POST", "/holders$", every="/holders"),
    "siglet": Calls("siglet", "POST", "/transfer-type-mappings$"),
    "onboarding": Calls("identityhub", "POST", "/credentials/request$", every="/credentials/request"),
}


class Rehearsals:
    """Knows which participant context is whose, from what passes by; not safe to share between threads."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._seen: set[tuple[str, str, str, str]] = set()

    def fault_for(self, service: str, request: Request) -> Fault | None:
        """The fault that a request meets because of its participant's DID, if any."""
        found = _IN_BODY.search(request.body)
        if found is None and not self._told:
            return None
        context = _context_of(request)
        if found is not None and context:
            self._told[context] = found[0].decode()
        did = self._told.get(context, "")
        for name, calls in CALLS.items():
            if calls.service == service and (how := _how(did, name)):
                return self._fault(how, calls, context, request)
        return None

    def _fault(self, how: str, calls: Calls, context: str, request: Request) -> Fault | None:
        if how == "fail":
            is_first = request.method == calls.method and re.search(calls.path, request.path)
            return Fault(calls.service, status=403) if is_first else None
        if not re.search(calls.every, request.path):
            return None
        if how == "slow":
            return Fault(calls.service, delay_seconds=SLOW_SECONDS)
        key = (context, calls.service, request.method, request.path)
        if key in self._seen:
            return None
        self._seen.add(key)
        return Fault(calls.service, status=503)


def refuses_issuance(did: str) -> bool:
    """Whether the issuer shall refuse the credentials of this participant."""
    return (found := _DID.match(did)) is not None and found.groups() == ("fail", "issuance")


def _how(did: str, name: str) -> str:
    """What goes wrong for ``did`` in the activity ``name``; empty if nothing does."""
    found = _DID.match(did)
    return found[1] if found and found[2] in {None, name} else ""


def _context_of(request: Request) -> str:
    """The participant context that a request's token is for."""
    try:
        return str(jwt.decode(request.bearer, options={"verify_signature": False}).get("sub", ""))
    except jwt.PyJWTError:
        return ""
