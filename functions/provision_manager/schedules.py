"""Schedules: orchestrations that are started again and again.

Source: interface decisions, "New routes".
"""

from __future__ import annotations

from urllib.parse import quote

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.provisioning.assembly import SCHEDULES
from cfm_core.provisioning.keys import check_same
from cfm_core.provisioning.operations.model import Order
from cfm_core.provisioning.schedules.service import Schedules
from cfm_core.provisioning.schedules.v1alpha1 import NewSchedule, ScheduleDiff, ScheduleDocument
from cfm_core.web import answers
from cfm_core.web.auth import PM_READ, PM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.edge import request_id_of, subject_of
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/schedules"
SCHEDULE = PATH + "/{schedule_id}"


@http_function("GET", PATH, scope=PM_READ, rights=["read schedule"], requires=[SCHEDULES], lists=ScheduleDocument)
def list_schedules(request: Request, schedules: Schedules, asked: Asked) -> Response:
    """A page of all schedules, or of those that a predicate holds for."""
    return answers.page(request, asked, schedules.select(asked.predicate, asked.page))


@http_function(
    "POST", PATH + "/query", scope=PM_READ, rights=["read schedule"], requires=[SCHEDULES], lists=ScheduleDocument
)
def query_schedules(request: Request, schedules: Schedules, asked: Asked) -> Response:
    """A page of the schedules that a predicate holds for."""
    return answers.page(request, asked, schedules.select(asked.predicate, asked.page))


@http_function(
    "POST",
    PATH,
    scope=PM_WRITE,
    rights=["create schedule", "create orchestration"],
    requires=[SCHEDULES],
    body=NewSchedule,
    gives={201: ScheduleDocument},
)
def create_schedule(request: Request, schedules: Schedules, new: NewSchedule) -> Response:
    """Create a schedule, with the id that it names or a random one."""
    schedule_id, schedule = schedules.create(new, _order(request))
    return answers.created(request, schedule, _path(schedule_id))


@http_function(
    "GET", SCHEDULE, scope=PM_READ, rights=["read schedule"], requires=[SCHEDULES], gives={200: ScheduleDocument}
)
def get_schedule(request: Request, schedules: Schedules, schedule_id: str) -> Response:
    """One schedule: when it comes due, what it has started last, and why it may have started nothing."""
    return answers.entity(request, schedules.get(schedule_id))


@http_function(
    *("PUT", SCHEDULE),
    scope=PM_WRITE,
    rights=["create schedule", "update schedule", "create orchestration"],
    requires=[SCHEDULES],
    body=NewSchedule,
    gives={200: ScheduleDocument, 201: ScheduleDocument},
)
def put_schedule(request: Request, schedules: Schedules, new: NewSchedule, schedule_id: str) -> Response:
    """Create a schedule with an id of the caller's, or replace it. With the same times it keeps the next one."""
    check_same("id", new.id, schedule_id)
    is_new, schedule = schedules.put(schedule_id, new, _order(request), expected(request))
    return answers.created(request, schedule, _path(schedule_id)) if is_new else answers.entity(request, schedule)


@http_function(
    "PATCH",
    SCHEDULE,
    scope=PM_WRITE,
    rights=["update schedule"],
    requires=[SCHEDULES],
    body=ScheduleDiff,
    gives={200: ScheduleDocument},
)
def change_schedule(request: Request, schedules: Schedules, diff: ScheduleDiff, schedule_id: str) -> Response:
    """Pause a schedule, or let it go on with the next time."""
    return answers.entity(request, schedules.change(schedule_id, diff, _order(request), expected(request)))


@http_function("DELETE", SCHEDULE, scope=PM_WRITE, rights=["delete schedule"], requires=[SCHEDULES])
def delete_schedule(request: Request, schedules: Schedules, schedule_id: str) -> Response:
    """Delete a schedule. What it has started goes on."""
    schedules.delete(schedule_id, _order(request), expected(request))
    return answers.empty()


def _path(schedule_id: str) -> str:
    return f"{PATH}/{quote(schedule_id, safe='')}"


def _order(request: Request) -> Order:
    return Order(actor=subject_of(request), reason="", request_id=request_id_of(request))
