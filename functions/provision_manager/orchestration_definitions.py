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
    TemplateChangeDocument,
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


@http_function(
    "GET",
    PATH,
    scope=PM_READ,
    rights=["read orchestrationDefinition"],
    requires=[DEFINITIONS],
    lists=OrchestrationDefinitionDocument,
)
def list_orchestration_definitions(request: Request, definitions: Definitions, asked: Asked) -> Response:
    """A page of all orchestration definitions, or of those that a predicate holds for."""
    return answers.page(
        request, asked, definitions.select_orchestration_definitions(parse(asked.predicate), asked.page)
    )


@http_function(
    "POST",
    PATH + "/query",
    scope=PM_READ,
    rights=["read orchestrationDefinition"],
    requires=[DEFINITIONS],
    lists=OrchestrationDefinitionDocument,
)
def query_orchestration_definitions(request: Request, definitions: Definitions, asked: Asked) -> Response:
    """A page of the orchestration definitions that a predicate holds for."""
    return answers.page(
        request, asked, definitions.select_orchestration_definitions(parse(asked.predicate), asked.page)
    )


@http_function(
    *("POST", PATH),
    scope=PM_WRITE,
    rights=["create orchestrationDefinition", "update orchestrationDefinition"],
    requires=[DEFINITIONS],
    body=OrchestrationTemplateDocument,
    gives={201: TemplateIdDocument},
)
def post_orchestration_template(
    request: Request, definitions: Definitions, document: OrchestrationTemplateDocument
) -> Response:
    """Put the definitions of a template in force, all or none, in place of those that others have posted for their types.

    Whoever uses templates side by side puts them under their ids, or posts them inactive: those keep their types.
    """
    template = document.to_model()
    doubts = definitions.add_template(template)
    created = {"Location": urls.local(request, _path(template.id))}
    return answers.with_warnings(answers.json_value(template_id_to_json(template), 201, created), doubts)


@http_function(
    *("GET", TEMPLATE),
    scope=PM_READ,
    rights=["read orchestrationDefinition"],
    requires=[DEFINITIONS],
    gives={200: list[OrchestrationDefinitionDocument]},
)
def get_orchestration_template(request: Request, definitions: Definitions, template_ref: str) -> Response:
    """The definitions that a template has made."""
    return answers.entity(request, definitions.get_template(template_ref))


@http_function(
    *("PUT", TEMPLATE),
    scope=PM_WRITE,
    rights=["create orchestrationDefinition", "update orchestrationDefinition"],
    requires=[DEFINITIONS],
    body=OrchestrationTemplateDocument,
    gives={200: list[OrchestrationDefinitionDocument], 201: list[OrchestrationDefinitionDocument]},
)
def put_orchestration_template(
    request: Request, definitions: Definitions, document: OrchestrationTemplateDocument, template_ref: str
) -> Response:
    """Create a template or replace it, beside those of others: an orchestration starts with the newest one that is active.

    What it had defined besides goes, unless an orchestration of it has not ended.
    """
    check_same("id", document.id, template_ref)
    template = replace(document.to_model(), id=template_ref)
    put = definitions.put_template(template, expected(request))
    if put.is_new:
        return answers.with_warnings(answers.created(request, put.template, _path(template_ref)), put.doubts)
    return answers.with_warnings(answers.entity(request, put.template), put.doubts)


@http_function(
    *("PATCH", TEMPLATE),
    scope=PM_WRITE,
    rights=["update orchestrationDefinition"],
    requires=[DEFINITIONS],
    body=TemplateChangeDocument,
    gives={200: list[OrchestrationDefinitionDocument]},
)
def patch_orchestration_template(
    request: Request, definitions: Definitions, document: TemplateChangeDocument, template_ref: str
) -> Response:
    """Let orchestrations start with a template's definitions, or not; what has started goes on, and can be undone."""
    return answers.entity(request, definitions.set_active(template_ref, document.active, expected(request)))


@http_function("DELETE", TEMPLATE, scope=PM_WRITE, rights=["delete orchestrationDefinition"], requires=[DEFINITIONS])
def delete_orchestration_template(request: Request, definitions: Definitions, template_ref: str) -> Response:
    """Delete the definitions that a template has made, unless an orchestration of theirs has not ended."""
    definitions.delete_template(template_ref, expected(request))
    return answers.empty()


def _path(template_ref: str) -> str:
    return f"{PATH}/{quote(template_ref, safe='')}"
