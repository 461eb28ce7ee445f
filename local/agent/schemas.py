"""JSON Schemas of activities from their models, and the activity definitions to be posted."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel

from cfm_core.contracts.orchestration import PARTICIPANT_ID, VPA_DATA
from local.agent.files import declaration_of

_WHEN_DISPOSING = frozenset({PARTICIPANT_ID, VPA_DATA})
"""The values that a disposal has where a deployment has them. Source: dataspace service contracts, section 1.2."""


def inputs_of(cls: type[Any]) -> dict[str, Any]:
    """The schema of the values that ``deploy`` reads; empty where the activity declares no model of them."""
    return _schema(declaration_of(cls).inputs)


def outputs_of(cls: type[Any]) -> dict[str, Any]:
    """The schema of what ``deploy`` gives; empty where the activity declares no model of that."""
    return _schema(declaration_of(cls).outputs)


def definition_of(cls: type[Any]) -> dict[str, Any]:
    """The activity definition for the Provision Manager.

    Its schemas count whatever the orchestration does. A disposal has few of a deployment's values and gives no outputs, so
    nothing of that is required there of an activity that can dispose.
    """
    inputs, outputs = inputs_of(cls), outputs_of(cls)
    if callable(getattr(cls, "dispose", None)):
        inputs, outputs = _requiring(inputs, _WHEN_DISPOSING), _requiring(outputs, frozenset())
    return {
        "type": declaration_of(cls).activity_type,
        "description": (inspect.getdoc(cls) or "").partition("\n")[0],
        "inputSchema": inputs,
        "outputSchema": outputs,
    }


def _schema(model: type[BaseModel] | None) -> dict[str, Any]:
    return {} if model is None else model.model_json_schema(by_alias=True)


def _requiring(schema: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """``schema`` with no other required names than ``names``."""
    required = [name for name in schema.get("required", ()) if name in names]
    rest = {key: value for key, value in schema.items() if key != "required"}
    return {**rest, "required": required} if required else rest
