"""Orchestration definitions: the activities of each orchestration type, given as templates.

Source: CFM wire contract, section 4.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.provisioning.assembly import DEFINITIONS
from cfm_core.provisioning.definitions.service import Definitions
from cfm_core.provisioning.definitions.v1alpha1 import (
    OrchestrationDefinitionDocument,
    OrchestrationTemplateDocument,
    TemplateIdDocument,
    template_id_to_json,
)
from cfm_core.provisioning.keys import check_same
from cfm_core.query import parse
from cfm_core.web import answers, urls
from cfm_core.web.auth import PM_READ, PM_WRITE
from cfm_core.web.conditional import expected
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/orchestration-definitions"
TEMPLATE = PATH + "/{template_ref}"


@http_function("GET", PATH, scope=PM_READ, requires=[DEFINITIONS], lists=OrchestrationDefinitionDocument)
def list_orchestration_definitions(request: Request, definitions: Definitions, asked: Asked) -> Response:
    """A page of all orchestration definitions, or of those that a predicate holds for."""
    return answers.page(
        request, asked, definitions.select_orchestration_definitions(parse(asked.predicate), asked.page)
    )


@http_function("POST", PATH + "/query", scope=PM_READ, requires=[DEFINITIONS], lists=OrchestrationDefinitionDocument)
def query_orchestration_definitions(request: Request, definitions: Definitions, asked: Asked) -> Response:
    """A page of the orchestration definitions that a predicate holds for."""
    return answers.page(
        request, asked, definitions.select_orchestration_definitions(parse(asked.predicate), asked.page)
    )


@http_function(
    *("POST", PATH),
    scope=PM_WRITE,
    requires=[DEFINITIONS],
    body=OrchestrationTemplateDocument,
    gives={201: TemplateIdDocument},
)
def post_orchestration_template(
    request: Request, definitions: Definitions, document: OrchestrationTemplateDocument
) -> Response:
    """Put the definitions of a template in force, all or none, in place of those that their types had."""
    template = document.to_model()
    definitions.add_template(template)
    return answers.json_value(template_id_to_json(template), 201, {"Location": urls.local(request, _path(template.id))})


@http_function(
    *("GET", TEMPLATE), scope=PM_READ, requires=[DEFINITIONS], gives={200: list[OrchestrationDefinitionDocument]}
)
def get_orchestration_template(request: Request, definitions: Definitions, template_ref: str) -> Response:
    """The definitions that a template has made."""
    return answers.entity(request, definitions.get_template(template_ref))


@http_function(
    *("PUT", TEMPLATE),
    scope=PM_WRITE,
    requires=[DEFINITIONS],
    body=OrchestrationTemplateDocument,
    gives={200: list[OrchestrationDefinitionDocument], 201: list[OrchestrationDefinitionDocument]},
)
def put_orchestration_template(
    request: Request, definitions: Definitions, document: OrchestrationTemplateDocument, template_ref: str
) -> Response:
    """Create a template or replace it: what it had defined besides goes, unless an orchestration of it has not ended."""
    check_same("id", document.id, template_ref)
    template = replace(document.to_model(), id=template_ref)
    is_new, found = definitions.put_template(template, expected(request))
    return answers.created(request, found, _path(template_ref)) if is_new else answers.entity(request, found)


@http_function("DELETE", TEMPLATE, scope=PM_WRITE, requires=[DEFINITIONS])
def delete_orchestration_template(request: Request, definitions: Definitions, template_ref: str) -> Response:
    """Delete the definitions that a template has made, unless an orchestration of theirs has not ended."""
    definitions.delete_template(template_ref, expected(request))
    return answers.empty()


def _path(template_ref: str) -> str:
    return f"{PATH}/{quote(template_ref, safe='')}"
