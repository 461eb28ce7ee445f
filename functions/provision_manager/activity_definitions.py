"""Activity definitions: which activity types orchestrations may use.

Source: CFM wire contract, section 4.
"""

from __future__ import annotations

from dataclasses import replace

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.provisioning.assembly import DEFINITIONS
from cfm_core.provisioning.definitions.service import Definitions
from cfm_core.provisioning.definitions.v1alpha1 import ActivityDefinitionDocument, PutActivityDefinitionDocument
from cfm_core.provisioning.keys import check_same
from cfm_core.query import parse
from cfm_core.web import answers, urls
from cfm_core.web.auth import PM_READ, PM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/activity-definitions"
ACTIVITY_DEFINITION = PATH + "/{activity_type}"


@http_function(
    "GET",
    PATH,
    scope=PM_READ,
    rights=["read activityDefinition"],
    requires=[DEFINITIONS],
    lists=ActivityDefinitionDocument,
)
def list_activity_definitions(request: Request, definitions: Definitions, asked: Asked) -> Response:
    """A page of all activity definitions, or of those that a predicate holds for."""
    return answers.page(request, asked, definitions.select_activity_definitions(parse(asked.predicate), asked.page))


@http_function(
    "POST",
    PATH + "/query",
    scope=PM_READ,
    rights=["read activityDefinition"],
    requires=[DEFINITIONS],
    lists=ActivityDefinitionDocument,
)
def query_activity_definitions(request: Request, definitions: Definitions, asked: Asked) -> Response:
    """A page of the activity definitions that a predicate holds for."""
    return answers.page(request, asked, definitions.select_activity_definitions(parse(asked.predicate), asked.page))


@http_function(
    "POST",
    PATH,
    scope=PM_WRITE,
    rights=["create activityDefinition", "update activityDefinition"],
    requires=[DEFINITIONS],
    body=ActivityDefinitionDocument,
    gives={201: None},
)
def post_activity_definition(
    request: Request, definitions: Definitions, document: ActivityDefinitionDocument
) -> Response:
    """Add an activity definition, or replace the one of its type."""
    definitions.put_activity_definition(document.to_model())
    return answers.empty(201, {"Location": urls.local(request, f"{PATH}/{document.type}")})


@http_function(
    *("GET", ACTIVITY_DEFINITION),
    scope=PM_READ,
    rights=["read activityDefinition"],
    requires=[DEFINITIONS],
    gives={200: ActivityDefinitionDocument},
)
def get_activity_definition(request: Request, definitions: Definitions, activity_type: str) -> Response:
    """The definition of one activity type."""
    return answers.entity(request, definitions.get_activity_definition(activity_type))


@http_function(
    *("PUT", ACTIVITY_DEFINITION),
    scope=PM_WRITE,
    rights=["create activityDefinition", "update activityDefinition"],
    requires=[DEFINITIONS],
    body=PutActivityDefinitionDocument,
    gives={200: ActivityDefinitionDocument, 201: ActivityDefinitionDocument},
)
def put_activity_definition(
    request: Request, definitions: Definitions, document: PutActivityDefinitionDocument, activity_type: str
) -> Response:
    """Create the definition of an activity type, or replace it."""
    check_same("type", document.type, activity_type)
    is_new, definition = definitions.put_activity_definition(
        replace(document.to_model(), type=activity_type), expected(request)
    )
    if is_new:
        return answers.created(request, definition, f"{PATH}/{activity_type}")
    return answers.entity(request, definition)


@http_function(
    "DELETE", ACTIVITY_DEFINITION, scope=PM_WRITE, rights=["delete activityDefinition"], requires=[DEFINITIONS]
)
def delete_activity_definition(request: Request, definitions: Definitions, activity_type: str) -> Response:
    """Delete an activity definition that no orchestration definition uses."""
    definitions.delete_activity_definition(activity_type, expected(request))
    return answers.empty()
