"""Activity types as operators see them: what is queued and in flight, and pausing.

Source: interface decisions, "New routes".
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.provisioning.activity_types.service import ActivityTypes
from cfm_core.provisioning.activity_types.v1alpha1 import ActivityTypeDocument, to_entity, to_json
from cfm_core.provisioning.assembly import ACTIVITY_TYPES
from cfm_core.provisioning.operations.v1alpha1 import OrderDocument
from cfm_core.web import answers
from cfm_core.web.auth import PM_READ, PM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.edge import request_id_of, subject_of

PATH = "/api/v1alpha1/activity-types"
ACTIVITY_TYPE = PATH + "/{activity_type}"


@http_function(
    "GET",
    PATH,
    scope=PM_READ,
    rights=["read activityType"],
    requires=[ACTIVITY_TYPES],
    gives={200: list[ActivityTypeDocument]},
)
def list_activity_types(request: Request, types: ActivityTypes) -> Response:
    """All activity types that are defined or that an agent has announced, with what is queued and in flight by tenant."""
    return answers.json_value([to_json(one) for one in types.all()])


@http_function(
    "GET",
    ACTIVITY_TYPE,
    scope=PM_READ,
    rights=["read activityType"],
    requires=[ACTIVITY_TYPES],
    gives={200: ActivityTypeDocument},
)
def get_activity_type(request: Request, types: ActivityTypes, activity_type: str) -> Response:
    """One activity type, with what is queued and in flight by tenant."""
    return answers.json_text(to_entity(types.get(activity_type)).text)


@http_function(
    *("POST", ACTIVITY_TYPE + "/pause"),
    scope=PM_WRITE,
    rights=["update activityType"],
    requires=[ACTIVITY_TYPES],
    body=OrderDocument,
    gives={200: ActivityTypeDocument},
    acts=True,
)
def pause_activity_type(
    request: Request, types: ActivityTypes, document: OrderDocument, activity_type: str
) -> Response:
    """Send no activity of a type any more. What was sent may still report. Safe to repeat."""
    order = document.to_order(subject_of(request), request_id_of(request))
    return answers.entity(request, to_entity(types.pause(activity_type, order, expected(request))))


@http_function(
    *("POST", ACTIVITY_TYPE + "/resume"),
    scope=PM_WRITE,
    rights=["update activityType"],
    requires=[ACTIVITY_TYPES],
    body=OrderDocument,
    gives={200: ActivityTypeDocument},
    acts=True,
)
def resume_activity_type(
    request: Request, types: ActivityTypes, document: OrderDocument, activity_type: str
) -> Response:
    """Send what was held back of a paused type, as far as its limits allow. Safe to repeat."""
    order = document.to_order(subject_of(request), request_id_of(request))
    return answers.entity(request, to_entity(types.resume(activity_type, order, expected(request))))
