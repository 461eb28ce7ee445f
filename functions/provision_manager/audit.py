"""The audit trail of both managers: who has changed what, when, why and from where; what it was before and after.

Entities of the Tenant Manager are told only to those who may read, or write, them there.
"""

from __future__ import annotations

from flask import Request, Response

from cfm_core.audit.assembly import AUDIT
from cfm_core.audit.model import EVERYBODY, Manager, subject_of
from cfm_core.audit.service import Audit, Erasure
from cfm_core.audit.v1alpha1 import AuditEntryDocument, AuditErasedDocument, AuditErasureDocument
from cfm_core.function import http_function
from cfm_core.masking import masked_text
from cfm_core.web import answers
from cfm_core.web.auth import PM_READ, PM_WRITE, TM_READ, TM_WRITE
from cfm_core.web.edge import principal_of, request_id_of
from cfm_core.web.paging import Asked

PATH = "/api/v1alpha1/audit"


@http_function("GET", PATH, scope=PM_READ, rights=["read audit"], requires=[AUDIT], lists=AuditEntryDocument)
def list_audit(request: Request, audit: Audit, asked: Asked) -> Response:
    """A page of what was changed over the API, or of what a predicate holds for; the oldest first."""
    return answers.page(request, asked, audit.select(asked.predicate, asked.page, _shown_to(request)))


@http_function(
    "POST", PATH + "/query", scope=PM_READ, rights=["read audit"], requires=[AUDIT], lists=AuditEntryDocument
)
def query_audit(request: Request, audit: Audit, asked: Asked) -> Response:
    """A page of what was changed over the API that a predicate holds for; the oldest first."""
    return answers.page(request, asked, audit.select(asked.predicate, asked.page, _shown_to(request)))


@http_function(
    *("POST", PATH + "/erase"),
    scope=PM_WRITE,
    rights=["delete audit"],
    requires=[AUDIT],
    body=AuditErasureDocument,
    gives={200: AuditErasedDocument},
)
def erase_audit(request: Request, audit: Audit, document: AuditErasureDocument) -> Response:
    """Forget why something was done to an entity and what it held, or who somebody is who has done something.

    That it was done stays, and the trail can still be verified. Safe to repeat.
    """
    principal = principal_of(request)
    erasure = Erasure(actor=principal.subject, reason=masked_text(document.reason), request_id=request_id_of(request))
    if document.actor:
        # Somebody may have done things in both managers.
        principal.require(TM_WRITE)
        return answers.json_value({"erased": audit.erase_actor(document.actor, erasure, document.issuer)})
    subject = subject_of(document.subject)
    if subject.kind.manager is Manager.TENANT_MANAGER:
        principal.require(TM_WRITE)
    return answers.json_value({"erased": audit.erase_content(subject, erasure)})


def _shown_to(request: Request) -> frozenset[Manager]:
    scopes = principal_of(request).scopes
    return EVERYBODY if scopes is None or TM_READ in scopes else frozenset({Manager.PROVISION_MANAGER})
