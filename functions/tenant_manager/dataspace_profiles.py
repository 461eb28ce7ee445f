"""The endpoints of dataspace profiles and their deployments.

Source: CFM wire contract, section 3.
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.tenancy.assembly import DATASPACE_PROFILES
from cfm_core.tenancy.dataspace_profiles.service import DataspaceProfiles
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import NewDataspaceProfile, NewDataspaceProfileDeployment
from cfm_core.web import answers
from cfm_core.web.auth import TM_READ, TM_WRITE
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/dataspace-profiles"


@http_function("GET", PATH, scope=TM_READ, requires=[DATASPACE_PROFILES], lists=dict)
def list_dataspace_profiles(request: Request, profiles: DataspaceProfiles, asked: Asked) -> Response:
    """A page of all dataspace profiles, or of those that a predicate holds for."""
    return answers.page(request, asked, profiles.select(asked.predicate, asked.page))


@http_function("POST", PATH, scope=TM_WRITE, requires=[DATASPACE_PROFILES], body=NewDataspaceProfile)
def create_dataspace_profile(request: Request, profiles: DataspaceProfiles, new: NewDataspaceProfile) -> Response:
    """Create a dataspace profile."""
    profile_id, profile = profiles.create(new)
    return answers.created(request, profile, f"{PATH}/{profile_id}")


@http_function("GET", PATH + "/{profile_id}", scope=TM_READ, requires=[DATASPACE_PROFILES])
def get_dataspace_profile(request: Request, profiles: DataspaceProfiles, profile_id: str) -> Response:
    """One dataspace profile."""
    return answers.entity(request, profiles.get(profile_id))


@http_function("DELETE", PATH + "/{profile_id}", scope=TM_WRITE, requires=[DATASPACE_PROFILES])
def delete_dataspace_profile(request: Request, profiles: DataspaceProfiles, profile_id: str) -> Response:
    """Delete a dataspace profile that no participant uses."""
    profiles.delete(profile_id)
    return answers.empty()


@http_function(
    *("POST", PATH + "/{profile_id}/deployments"),
    scope=TM_WRITE,
    requires=[DATASPACE_PROFILES],
    body=NewDataspaceProfileDeployment,
    body_is_optional=True,
    gives={202: None},
)
def deploy_dataspace_profile(
    request: Request, profiles: DataspaceProfiles, new: NewDataspaceProfileDeployment, profile_id: str
) -> Response:
    """Deploy a dataspace profile to a cell. Repeated, it has the same effect."""
    profiles.deploy(profile_id, new)
    return answers.empty(202)
