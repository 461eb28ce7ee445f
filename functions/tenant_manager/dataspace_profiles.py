"""The endpoints of dataspace profiles and their deployments.

Source: CFM wire contract, section 3.
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.tenancy.assembly import DATASPACE_PROFILES
from cfm_core.tenancy.dataspace_profiles.service import DataspaceProfiles
from cfm_core.tenancy.dataspace_profiles.v1alpha1 import (
    DataspaceDeploymentDocument,
    DataspaceProfileDocument,
    NewDataspaceProfile,
    NewDataspaceProfileDeployment,
)
from cfm_core.web import answers
from cfm_core.web.auth import TM_READ, TM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/dataspace-profiles"
PROFILE = PATH + "/{profile_id}"
DEPLOYMENTS = PROFILE + "/deployments"


@http_function(
    "GET",
    PATH,
    scope=TM_READ,
    rights=["read dataspaceProfile"],
    requires=[DATASPACE_PROFILES],
    lists=DataspaceProfileDocument,
)
def list_dataspace_profiles(request: Request, profiles: DataspaceProfiles, asked: Asked) -> Response:
    """A page of all dataspace profiles, or of those that a predicate holds for."""
    return answers.page(request, asked, profiles.select(asked.predicate, asked.page))


@http_function(
    "POST",
    PATH + "/query",
    scope=TM_READ,
    rights=["read dataspaceProfile"],
    requires=[DATASPACE_PROFILES],
    lists=DataspaceProfileDocument,
)
def query_dataspace_profiles(request: Request, profiles: DataspaceProfiles, asked: Asked) -> Response:
    """A page of the dataspace profiles that a predicate holds for."""
    return answers.page(request, asked, profiles.select(asked.predicate, asked.page))


@http_function(
    *("POST", PATH),
    scope=TM_WRITE,
    rights=["create dataspaceProfile"],
    requires=[DATASPACE_PROFILES],
    body=NewDataspaceProfile,
    gives={201: DataspaceProfileDocument},
)
def create_dataspace_profile(request: Request, profiles: DataspaceProfiles, new: NewDataspaceProfile) -> Response:
    """Create a dataspace profile."""
    profile_id, profile = profiles.create(new)
    return answers.created(request, profile, f"{PATH}/{profile_id}")


@http_function(
    "GET",
    PROFILE,
    scope=TM_READ,
    rights=["read dataspaceProfile"],
    requires=[DATASPACE_PROFILES],
    gives={200: DataspaceProfileDocument},
)
def get_dataspace_profile(request: Request, profiles: DataspaceProfiles, profile_id: str) -> Response:
    """One dataspace profile."""
    return answers.entity(request, profiles.get(profile_id))


@http_function(
    *("PUT", PROFILE),
    scope=TM_WRITE,
    rights=["update dataspaceProfile"],
    requires=[DATASPACE_PROFILES],
    body=NewDataspaceProfile,
    gives={200: DataspaceProfileDocument, 201: DataspaceProfileDocument},
)
def put_dataspace_profile(
    request: Request, profiles: DataspaceProfiles, new: NewDataspaceProfile, profile_id: str
) -> Response:
    """Create a dataspace profile with an id of the caller's, or replace it. Its deployments stay.

    Participants may use it meanwhile: what they have been issued changes with their next deployment only.
    """
    is_new, profile = profiles.put(profile_id, new, expected(request))
    return answers.created(request, profile, f"{PATH}/{profile_id}") if is_new else answers.entity(request, profile)


@http_function("DELETE", PROFILE, scope=TM_WRITE, rights=["delete dataspaceProfile"], requires=[DATASPACE_PROFILES])
def delete_dataspace_profile(request: Request, profiles: DataspaceProfiles, profile_id: str) -> Response:
    """Delete a dataspace profile that no participant uses, with its deployments."""
    profiles.delete(profile_id, expected(request))
    return answers.empty()


@http_function(
    *("POST", DEPLOYMENTS),
    scope=TM_WRITE,
    rights=["deploy dataspaceProfile"],
    requires=[DATASPACE_PROFILES],
    body=NewDataspaceProfileDeployment,
    body_is_optional=True,
    gives={202: None},
    acts=True,
)
def deploy_dataspace_profile(
    request: Request, profiles: DataspaceProfiles, new: NewDataspaceProfileDeployment, profile_id: str
) -> Response:
    """Deploy a dataspace profile to a cell. Repeated, it has the same effect."""
    profiles.deploy(profile_id, new, expected(request))
    return answers.empty(202)


@http_function(
    "GET",
    DEPLOYMENTS,
    scope=TM_READ,
    rights=["read dataspaceProfile"],
    requires=[DATASPACE_PROFILES],
    lists=DataspaceDeploymentDocument,
)
def list_dataspace_deployments(
    request: Request, profiles: DataspaceProfiles, asked: Asked, profile_id: str
) -> Response:
    """A page of the deployments of a dataspace profile, or of those that a predicate holds for."""
    return answers.page(request, asked, profiles.deployments(profile_id, asked.predicate, asked.page))


@http_function(
    "DELETE",
    DEPLOYMENTS + "/{deployment_id}",
    scope=TM_WRITE,
    rights=["dispose dataspaceProfile"],
    requires=[DATASPACE_PROFILES],
)
def undeploy_dataspace_profile(
    request: Request, profiles: DataspaceProfiles, profile_id: str, deployment_id: str
) -> Response:
    """Take a dataspace profile from a cell where no participant uses it."""
    profiles.undeploy(profile_id, deployment_id, expected(request))
    return answers.empty()
