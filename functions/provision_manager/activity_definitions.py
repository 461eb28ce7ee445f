"""Activity definitions: which activity types orchestrations may use."""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.provisioning.assembly import DEFINITIONS
from cfm_core.provisioning.definitions import v1alpha1
from cfm_core.provisioning.definitions.service import Definitions
from cfm_core.web.answers import empty, json_value
from cfm_core.web.auth import PM_READ, PM_WRITE

PATH = "/api/v1alpha1/activity-definitions"


@http_function("GET", PATH, scope=PM_READ, requires=[DEFINITIONS])
def list_activity_definitions(request: Request, definitions: Definitions) -> Response:
    """List all activity definitions."""
    return json_value([v1alpha1.activity_definition_to_json(one) for one in definitions.list_activity_definitions()])


@http_function(
    *("POST", PATH),
    scope=PM_WRITE,
    requires=[DEFINITIONS],
    body=v1alpha1.ActivityDefinitionDocument,
    gives={201: None},
)
def put_activity_definition(
    request: Request, definitions: Definitions, document: v1alpha1.ActivityDefinitionDocument
) -> Response:
    """Add an activity definition, or replace the one of its type."""
    definitions.put_activity_definition(document.to_model())
    return empty(201)


@http_function("DELETE", PATH + "/{activity_type}", scope=PM_WRITE, requires=[DEFINITIONS])
def delete_activity_definition(request: Request, definitions: Definitions, activity_type: str) -> Response:
    """Delete an activity definition that no orchestration definition uses."""
    definitions.delete_activity_definition(activity_type)
    return empty()
