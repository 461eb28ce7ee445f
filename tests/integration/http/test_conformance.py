"""Every operation against its own description: generated requests, with and without sense, to a process with tokens.

``CFM_EXAMPLES`` is the number of requests for each operation.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cfm_core.web.openapi import document
from tests.integration.http.api import FUNCTIONS, GATEWAY, Api, fabric

CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
]


def strict_schema() -> Any:
    """The description without its word for all other answers, which would allow every status."""
    described = document(FUNCTIONS)
    for path in described["paths"].values():
        for operation in path.values():
            del operation["responses"]["default"]
    schema = schemathesis.openapi.from_dict(described)
    schema.app = GATEWAY
    return schema


OPERATIONS = {found.ok().label: found.ok() for found in strict_schema().get_all_operations()}


@pytest.mark.parametrize("label", OPERATIONS)
def test_an_operation_answers_as_it_is_described(shared_api: Api, label: str) -> None:
    operation = OPERATIONS[label]
    parts = fabric(shared_api).fill(operation.path).split("/")
    names = operation.path.split("/")
    known = {name[1:-1]: part for name, part in zip(names, parts, strict=True) if name.startswith("{")}
    cases = st.one_of(
        operation.as_strategy(path_parameters=known),
        operation.as_strategy(),
        operation.as_strategy(GenerationMode.NEGATIVE, path_parameters=known),
    )

    @settings(
        max_examples=int(os.environ.get("CFM_EXAMPLES", "40")),
        derandomize="CFM_EXAMPLES" not in os.environ,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def conforms(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(headers=dict(shared_api.headers), checks=CHECKS)

    conforms()
