"""Messages between the Tenant Manager and the Provision Manager.

Source: CFM wire contract, sections 5.10, 6, 8 and 9.2.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_serializer

from cfm_core.contracts.documents import Document

DEPLOY = "cfm.orchestration.vpa.deploy"
DISPOSE = "cfm.orchestration.vpa.dispose"

PARTICIPANT_ID = "cfm.participant.id"
VPA_DATA = "cfm.vpa.data"
VPA_CREDENTIALS = "cfm.vpa.credentials"
VPA_STATE = "cfm.vpa.state"
TENANT_ID = "cfm.tenant.id"
"""Our addition to the payload; a manifest without it belongs to one anonymous tenant."""

_COMPENSATE = ".compensate"
_TEMPLATE_REF = ("templateRef", "template_ref")


def compensation_id(manifest_id: str) -> str:
    """The id of the orchestration that undoes ``manifest_id``: derived, so that it can start only once."""
    return manifest_id + _COMPENSATE


def compensated_id(orchestration_id: str) -> str:
    """The id of the orchestration that ``orchestration_id`` undoes; its own where it does not compensate another."""
    return orchestration_id.removesuffix(_COMPENSATE)


class OrchestrationManifest(Document):
    """Asks the Provision Manager to run an orchestration; its id becomes the orchestration's."""

    id: str = Field(min_length=1, max_length=512 + len(compensation_id("")))
    """At most 512 characters from a caller; a derived one may be longer."""
    correlation_id: str = ""
    orchestration_type: str = Field(min_length=1, max_length=256)
    payload: dict[str, Any] = Field(default_factory=dict)
    template_ref: str = ""
    """Our addition: the template with whose definition it runs; the newest active one, if empty."""

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, handler: Any) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        return document if self.template_ref else {k: v for k, v in document.items() if k not in _TEMPLATE_REF}

    @property
    def tenant_id(self) -> str:
        """The tenant that the payload names; empty for the anonymous one."""
        tenant = self.payload.get(TENANT_ID)
        return tenant if isinstance(tenant, str) else ""


class OrchestrationResponse(Document):
    """Tells how an orchestration has ended; ``properties`` are its outputs."""

    id: str = Field(min_length=1)
    manifest_id: str = Field(min_length=1)
    correlation_id: str = Field(min_length=1)
    orchestration_type: str = Field(min_length=1)
    success: bool
    error_detail: str = ""
    properties: dict[str, Any] = Field(default_factory=dict)
    retries: int = 0
    """Our addition: how often an operator has let the orchestration go on after it had ended before."""

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, handler: Any) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        left_out = {"errorDetail", "error_detail"} if not self.error_detail else set()
        left_out |= {"retries"} if not self.retries else set()
        return {name: value for name, value in document.items() if name not in left_out}
