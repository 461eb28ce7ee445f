"""The endpoints of participant profiles.

Source: CFM wire contract, sections 3 and 8.
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.entities import JsonEntity
from cfm_core.errors import FieldError, ValidationError
from cfm_core.function import http_function
from cfm_core.tenancy.assembly import PARTICIPANT_PROFILES
from cfm_core.tenancy.participant_profiles.service import ParticipantProfiles
from cfm_core.tenancy.participant_profiles.v1alpha1 import (
    DeployedParticipantProfileDocument,
    NewParticipantProfileDeployment,
    ParticipantProfileDiff,
    ParticipantProfileDocument,
)
from cfm_core.web import answers
from cfm_core.web.auth import TM_READ, TM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/tenants/{tenant_id}/participant-profiles"
PROFILE = PATH + "/{profile_id}"
ALL = "/api/v1alpha1/participant-profiles"
ORCHESTRATIONS = "/api/v1alpha1/orchestrations"
"""Where the Provision Manager shows how a deployment goes on."""


@http_function(
    "GET",
    PATH,
    scope=TM_READ,
    rights=["read participantProfile"],
    requires=[PARTICIPANT_PROFILES],
    lists=ParticipantProfileDocument,
)
def list_participant_profiles(
    request: Request, profiles: ParticipantProfiles, asked: Asked, tenant_id: str
) -> Response:
    """A page of the participant profiles of a tenant, or of those that a predicate holds for."""
    return answers.page(request, asked, profiles.select_of(tenant_id, asked.predicate, asked.page))


@http_function(
    *("POST", PATH),
    scope=TM_WRITE,
    rights=["create participantProfile"],
    requires=[PARTICIPANT_PROFILES],
    body=NewParticipantProfileDeployment,
    gives={202: DeployedParticipantProfileDocument},
)
def deploy_participant_profile(
    request: Request, profiles: ParticipantProfiles, new: NewParticipantProfileDeployment, tenant_id: str
) -> Response:
    """Create a participant profile and begin to deploy its virtual participant agents."""
    return _accepted(request, *profiles.deploy(tenant_id, new))


@http_function(
    "GET",
    PROFILE,
    scope=TM_READ,
    rights=["read participantProfile"],
    requires=[PARTICIPANT_PROFILES],
    gives={200: ParticipantProfileDocument},
)
def get_participant_profile(
    request: Request, profiles: ParticipantProfiles, tenant_id: str, profile_id: str
) -> Response:
    """One participant profile of a tenant."""
    return answers.entity(request, profiles.get(tenant_id, profile_id))


@http_function(
    *("PATCH", PROFILE),
    scope=TM_WRITE,
    rights=["update participantProfile"],
    requires=[PARTICIPANT_PROFILES],
    body=ParticipantProfileDiff,
    gives={200: ParticipantProfileDocument, 202: DeployedParticipantProfileDocument},
)
def change_participant_profile(
    request: Request, profiles: ParticipantProfiles, diff: ParticipantProfileDiff, tenant_id: str, profile_id: str
) -> Response:
    """Change a participant profile: its properties at any time; roles, dataspaces and agents while it is active.

    Where its services have to follow, the answer is 202, and they are brought in line.
    """
    orchestration_id, profile = profiles.change(tenant_id, profile_id, diff, expected(request))
    return (
        answers.entity(request, profile) if orchestration_id is None else _accepted(request, orchestration_id, profile)
    )


@http_function(
    *("POST", PROFILE + "/deploy"),
    scope=TM_WRITE,
    rights=["deploy participantProfile"],
    requires=[PARTICIPANT_PROFILES],
    body=ParticipantProfileDiff,
    body_is_optional=True,
    gives={202: DeployedParticipantProfileDocument},
    acts=True,
)
def deploy_participant_profile_again(
    request: Request, profiles: ParticipantProfiles, diff: ParticipantProfileDiff, tenant_id: str, profile_id: str
) -> Response:
    """Begin to deploy a participant profile that is in error or disposed, with changes if there are any."""
    return _accepted(request, *profiles.deploy_again(tenant_id, profile_id, diff, expected(request)))


@http_function(
    *("DELETE", PROFILE),
    scope=TM_WRITE,
    rights=["dispose participantProfile"],
    requires=[PARTICIPANT_PROFILES],
    gives={200: None, 202: None},
    query={"purge": bool},
)
def dispose_participant_profile(
    request: Request, profiles: ParticipantProfiles, tenant_id: str, profile_id: str
) -> Response:
    """Begin to dispose the virtual participant agents of a participant profile. A second request is refused.

    With ``purge=true`` a disposed profile is deleted for good.
    """
    if _purges(request):
        profiles.purge(tenant_id, profile_id, expected(request))
        return answers.empty()
    orchestration_id, profile = profiles.dispose(tenant_id, profile_id, expected(request))
    return answers.accepted(request, "", f"{ORCHESTRATIONS}/{orchestration_id}", profile.version)


@http_function(
    "GET",
    ALL,
    scope=TM_READ,
    rights=["read participantProfile"],
    requires=[PARTICIPANT_PROFILES],
    lists=ParticipantProfileDocument,
)
def list_all_participant_profiles(request: Request, profiles: ParticipantProfiles, asked: Asked) -> Response:
    """A page of the participant profiles of all tenants, or of those that a predicate holds for."""
    return answers.page(request, asked, profiles.select(asked.predicate, asked.page))


@http_function(
    "POST",
    ALL + "/query",
    scope=TM_READ,
    rights=["read participantProfile"],
    requires=[PARTICIPANT_PROFILES],
    lists=ParticipantProfileDocument,
)
def query_participant_profiles(request: Request, profiles: ParticipantProfiles, asked: Asked) -> Response:
    """A page of the participant profiles, of all tenants, that a predicate holds for."""
    return answers.page(request, asked, profiles.select(asked.predicate, asked.page))


def _accepted(request: Request, orchestration_id: str, profile: JsonEntity) -> Response:
    return answers.accepted(request, profile.text, f"{ORCHESTRATIONS}/{orchestration_id}", profile.version)


def _purges(request: Request) -> bool:
    given = request.args.get("purge", "false").lower()
    if given not in {"true", "false"}:
        problem = f"purge must be true or false, and not {given!r}"
        raise ValidationError(f"Bad request: {problem}", [FieldError("/purge", problem)])
    return given == "true"
