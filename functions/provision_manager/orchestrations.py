"""Orchestrations: started by hand, looked at, searched for.

Source: CFM wire contract, section 4.
"""

from __future__ import annotations

from urllib.parse import quote

from flask import Request, Response

from cfm_core.clock import system_clock
from cfm_core.contracts.instants import instant
from cfm_core.entities import json_of
from cfm_core.errors import ClientError
from cfm_core.function import http_function
from cfm_core.provisioning.assembly import ORCHESTRATIONS
from cfm_core.provisioning.orchestrations import v1alpha1
from cfm_core.provisioning.orchestrations.service import Orchestrations
from cfm_core.query import parse
from cfm_core.web import answers
from cfm_core.web.auth import PM_READ, PM_WRITE
from cfm_core.web.edge import request_id_of
from cfm_core.web.paging import Asked
from cfm_core.web.problem import problem

PATH = "/api/v1alpha1/orchestrations"
ORCHESTRATION = PATH + "/{orchestration_id}"


@http_function(
    "GET",
    PATH,
    scope=PM_READ,
    rights=["read orchestration"],
    requires=[ORCHESTRATIONS],
    lists=v1alpha1.OrchestrationEntryDocument,
)
def list_orchestrations(request: Request, orchestrations: Orchestrations, asked: Asked) -> Response:
    """A page of all orchestrations, or of those that a predicate holds for."""
    return answers.page(request, asked, orchestrations.select(parse(asked.predicate), asked.page))


@http_function(
    *("POST", PATH + "/query"),
    scope=PM_READ,
    rights=["read orchestration"],
    requires=[ORCHESTRATIONS],
    lists=v1alpha1.OrchestrationEntryDocument,
)
def query_orchestrations(request: Request, orchestrations: Orchestrations, asked: Asked) -> Response:
    """A page of the orchestrations that a predicate holds for."""
    return answers.page(request, asked, orchestrations.select(parse(asked.predicate), asked.page))


@http_function(
    *("POST", PATH),
    scope=PM_WRITE,
    rights=["create orchestration"],
    requires=[ORCHESTRATIONS],
    body=v1alpha1.ManifestDocument,
    gives={202: v1alpha1.StartedOrchestrationDocument},
)
def start_orchestration(
    request: Request, orchestrations: Orchestrations, manifest: v1alpha1.ManifestDocument
) -> Response:
    """Start an orchestration, now or at ``startAt``. A known id is answered with the orchestration that has it."""
    started = orchestrations.start(manifest.to_manifest(), manifest.start_at)
    monitor = f"{PATH}/{quote(started.id, safe='')}"
    return answers.accepted(request, json_of(v1alpha1.to_internal_json(started, system_clock())), monitor)


@http_function(
    *("GET", ORCHESTRATION),
    scope=PM_READ,
    rights=["read orchestration"],
    requires=[ORCHESTRATIONS],
    gives={200: v1alpha1.OrchestrationDocument},
)
def get_orchestration(request: Request, orchestrations: Orchestrations, orchestration_id: str) -> Response:
    """One orchestration with its steps and its data."""
    return answers.entity(request, v1alpha1.to_entity(orchestrations.get(orchestration_id)))


@http_function(
    *("GET", ORCHESTRATION + "/history"),
    scope=PM_READ,
    rights=["read orchestration"],
    requires=[ORCHESTRATIONS],
    gives={200: list[v1alpha1.AttemptDocument]},
)
def get_orchestration_history(request: Request, orchestrations: Orchestrations, orchestration_id: str) -> Response:
    """How each attempt at each activity ended, in this order."""
    attempts = orchestrations.history(orchestration_id)
    return answers.json_value([v1alpha1.attempt_to_json(attempt) for attempt in attempts])


@http_function(
    *("POST", ORCHESTRATION + "/activities/{activity_id}/complete"),
    scope=None,
    requires=[ORCHESTRATIONS],
    body=v1alpha1.EndingDocument,
    gives={200: v1alpha1.EndedActivityDocument},
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
    return answers.json_value(v1alpha1.ended_to_json(activity_id, ending))


@http_function(
    *("POST", ORCHESTRATION + "/activities/{activity_id}/heartbeat"),
    scope=None,
    requires=[ORCHESTRATIONS],
    body=v1alpha1.HeartbeatDocument,
    gives={200: v1alpha1.HeartbeatAnswerDocument},
)
def keep_activity(
    request: Request,
    orchestrations: Orchestrations,
    document: v1alpha1.HeartbeatDocument,
    orchestration_id: str,
    activity_id: str,
) -> Response:
    """Take a sign of life from the agent that has an activity: the token of its dispatch stands for a scope. Safe to repeat."""
    until = orchestrations.heartbeat(orchestration_id, activity_id, document.to_heartbeat())
    return answers.json_value({"dueAt": instant(until)})


class _NotAllowed(ClientError):
    status = 405


@http_function("POST", ORCHESTRATION, scope=PM_WRITE, rights=["read orchestration"], gives={})
def refuse_post_to_orchestration(request: Request, orchestration_id: str) -> Response:
    """Say that nothing can be posted to an orchestration."""
    response = problem(_NotAllowed("Method not allowed"), request, request_id_of(request))
    response.headers["Allow"] = "GET"
    return response
