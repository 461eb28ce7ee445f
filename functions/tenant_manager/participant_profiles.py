"""The endpoints of participant profiles.

Source: CFM wire contract, sections 3 and 8.
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.tenancy.assembly import PARTICIPANT_PROFILES
from cfm_core.tenancy.participant_profiles.service import ParticipantProfiles
from cfm_core.tenancy.participant_profiles.v1alpha1 import NewParticipantProfileDeployment
from cfm_core.web import answers
from cfm_core.web.auth import TM_READ, TM_WRITE
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/tenants/{tenant_id}/participant-profiles"
ALL = "/api/v1alpha1/participant-profiles"
ORCHESTRATIONS = "/api/v1alpha1/orchestrations"
"""Where the Provision Manager shows how a deployment goes on."""


@http_function("GET", PATH, scope=TM_READ, requires=[PARTICIPANT_PROFILES], lists=dict)
def list_participant_profiles(
    request: Request, profiles: ParticipantProfiles, asked: Asked, tenant_id: str
) -> Response:
    """A page of the participant profiles of a tenant, or of those that a predicate holds for."""
    return answers.page(request, asked, profiles.select_of(tenant_id, asked.predicate, asked.page))


@http_function("POST", PATH, scope=TM_WRITE, requires=[PARTICIPANT_PROFILES], body=NewParticipantProfileDeployment)
def deploy_participant_profile(
    request: Request, profiles: ParticipantProfiles, new: NewParticipantProfileDeployment, tenant_id: str
) -> Response:
    """Create a participant profile and begin to deploy its virtual participant agents."""
    orchestration_id, profile = profiles.deploy(tenant_id, new)
    return answers.accepted(request, profile.text, f"{ORCHESTRATIONS}/{orchestration_id}", profile.version)


@http_function("GET", PATH + "/{profile_id}", scope=TM_READ, requires=[PARTICIPANT_PROFILES])
def get_participant_profile(
    request: Request, profiles: ParticipantProfiles, tenant_id: str, profile_id: str
) -> Response:
    """One participant profile of a tenant."""
    return answers.entity(request, profiles.get(tenant_id, profile_id))


@http_function("DELETE", PATH + "/{profile_id}", scope=TM_WRITE, requires=[PARTICIPANT_PROFILES])
def dispose_participant_profile(
    request: Request, profiles: ParticipantProfiles, tenant_id: str, profile_id: str
) -> Response:
    """Begin to dispose the virtual participant agents of a participant profile. A second request is refused."""
    orchestration_id = profiles.dispose(tenant_id, profile_id)
    return answers.accepted(request, "", f"{ORCHESTRATIONS}/{orchestration_id}")


@http_function("GET", ALL, scope=TM_READ, requires=[PARTICIPANT_PROFILES], lists=dict)
def list_all_participant_profiles(request: Request, profiles: ParticipantProfiles, asked: Asked) -> Response:
    """A page of the participant profiles of all tenants, or of those that a predicate holds for."""
    return answers.page(request, asked, profiles.select(asked.predicate, asked.page))


@http_function("POST", ALL + "/query", scope=TM_READ, requires=[PARTICIPANT_PROFILES], lists=dict)
def query_participant_profiles(request: Request, profiles: ParticipantProfiles, asked: Asked) -> Response:
    """A page of the participant profiles, of all tenants, that a predicate holds for."""
    return answers.page(request, asked, profiles.select(asked.predicate, asked.page))
