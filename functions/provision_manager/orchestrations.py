"""Orchestrations: started by hand, looked at, searched for."""

from __future__ import annotations

from flask import Request, Response

from cfm_core import query
from cfm_core.errors import ClientError
from cfm_core.function import http_function
from cfm_core.provisioning.assembly import ORCHESTRATIONS
from cfm_core.provisioning.orchestrations import v1alpha1
from cfm_core.provisioning.orchestrations.service import Orchestrations
from cfm_core.web.answers import json_value, page
from cfm_core.web.auth import PM_READ, PM_WRITE
from cfm_core.web.edge import request_id_of
from cfm_core.web.paging import Asked
from cfm_core.web.problem import problem

PATH = "/api/v1alpha1/orchestrations"


@http_function("POST", PATH, scope=PM_WRITE, requires=[ORCHESTRATIONS], body=v1alpha1.ManifestDocument)
def start_orchestration(
    request: Request, orchestrations: Orchestrations, manifest: v1alpha1.ManifestDocument
) -> Response:
    """Start an orchestration. A known id is answered with the orchestration that has it."""
    return json_value(v1alpha1.to_internal_json(orchestrations.start(manifest.to_manifest())), 202)


@http_function("POST", PATH + "/query", scope=PM_READ, requires=[ORCHESTRATIONS], lists=dict)
def query_orchestrations(request: Request, orchestrations: Orchestrations, asked: Asked) -> Response:
    """A page of the orchestrations that a predicate holds for."""
    return page(request, asked, orchestrations.query(query.parse(asked.predicate), asked.page))


@http_function("GET", PATH + "/{orchestration_id}", scope=PM_READ, requires=[ORCHESTRATIONS])
def get_orchestration(request: Request, orchestrations: Orchestrations, orchestration_id: str) -> Response:
    """Show an orchestration with its steps and its data."""
    return json_value(v1alpha1.to_json(orchestrations.get(orchestration_id)))


@http_function("GET", PATH + "/{orchestration_id}/history", scope=PM_READ, requires=[ORCHESTRATIONS])
def get_orchestration_history(request: Request, orchestrations: Orchestrations, orchestration_id: str) -> Response:
    """Show how each attempt at each activity ended, in this order."""
    return json_value([v1alpha1.attempt_to_json(attempt) for attempt in orchestrations.history(orchestration_id)])


@http_function(
    *("POST", PATH + "/{orchestration_id}/activities/{activity_id}/complete"),
    scope=None,
    requires=[ORCHESTRATIONS],
    body=v1alpha1.EndingDocument,
)
def end_activity(
    request: Request,
    orchestrations: Orchestrations,
    document: v1alpha1.EndingDocument,
    orchestration_id: str,
    activity_id: str,
) -> Response:
    """End an activity that waits, by whoever was given its token: the token stands for a scope. Safe to repeat."""
    ending = document.to_ending()
    orchestrations.end_activity(orchestration_id, activity_id, ending)
    return json_value({"activityId": activity_id, "state": "failed" if ending.error else "done"})


class _NotAllowed(ClientError):
    status = 405


@http_function("POST", PATH + "/{orchestration_id}", scope=PM_WRITE)
def refuse_post_to_orchestration(request: Request, orchestration_id: str) -> Response:
    """Say that nothing can be posted to an orchestration."""
    response = problem(_NotAllowed("Method not allowed"), request, request_id_of(request))
    response.headers["Allow"] = "GET"
    return response
