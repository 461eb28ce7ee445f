"""Orchestration definitions: the activities of each orchestration type, given as templates."""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.provisioning.assembly import DEFINITIONS
from cfm_core.provisioning.definitions import v1alpha1
from cfm_core.provisioning.definitions.service import Definitions
from cfm_core.web.answers import empty, json_value
from cfm_core.web.auth import PM_READ, PM_WRITE

PATH = "/api/v1alpha1/orchestration-definitions"


@http_function("GET", PATH, scope=PM_READ, requires=[DEFINITIONS])
def list_orchestration_definitions(request: Request, definitions: Definitions) -> Response:
    """List all orchestration definitions."""
    return json_value(
        [v1alpha1.orchestration_definition_to_json(one) for one in definitions.list_orchestration_definitions()]
    )


@http_function("POST", PATH, scope=PM_WRITE, requires=[DEFINITIONS], body=v1alpha1.OrchestrationTemplateDocument)
def put_orchestration_template(
    request: Request, definitions: Definitions, document: v1alpha1.OrchestrationTemplateDocument
) -> Response:
    """Put the definitions of a template in force, all or none, in place of those that their types had."""
    template = document.to_model()
    definitions.put_template(template)
    return json_value({"id": template.id, "description": "ID of the Orchestration Template"}, 201)


@http_function("GET", PATH + "/{template_ref}", scope=PM_READ, requires=[DEFINITIONS])
def get_orchestration_template(request: Request, definitions: Definitions, template_ref: str) -> Response:
    """Show the definitions that a template has made."""
    return json_value(
        [v1alpha1.orchestration_definition_to_json(one) for one in definitions.get_template(template_ref)]
    )


@http_function("DELETE", PATH + "/{template_ref}", scope=PM_WRITE, requires=[DEFINITIONS])
def delete_orchestration_template(request: Request, definitions: Definitions, template_ref: str) -> Response:
    """Delete the definitions that a template has made, unless an orchestration of theirs has not ended."""
    definitions.delete_template(template_ref)
    return empty()
