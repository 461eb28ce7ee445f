"""Generated requests to each operation, with tokens that allow something else: whatever they hold, none gets in."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import ignored_auth
from werkzeug.test import Client

from cfm_core.declaration import HttpFunction
from cfm_core.web.auth import ALL_SCOPES
from tests.integration.http.api import FUNCTIONS, GATEWAY, Api
from tests.integration.http.test_conformance import OPERATIONS
from tests.support.tokens import Issuer, new_key

GUARDED = {one.name: one for one in FUNCTIONS if one.scope is not None}

generated = settings(
    max_examples=5,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def function_of(operation: Any) -> HttpFunction | None:
    return GUARDED.get(operation.definition.raw["operationId"])


LABELS = [label for label, operation in OPERATIONS.items() if function_of(operation) is not None]


def any_case(label: str) -> Any:
    operation = OPERATIONS[label]
    return st.one_of(operation.as_strategy(), operation.as_strategy(schemathesis.GenerationMode.NEGATIVE))


def test_every_guarded_function_is_asked() -> None:
    assert len(LABELS) == len(GUARDED)


@pytest.mark.parametrize("label", LABELS)
def test_no_generated_request_gets_in_without_its_scope(shared_api: Api, shared_issuer: Issuer, label: str) -> None:
    function = function_of(OPERATIONS[label])
    assert function is not None
    scopes = [scope for scope in ALL_SCOPES if scope != function.scope]
    forged, scarce = shared_issuer.token(key=new_key()), shared_issuer.token(*scopes)
    shown = {
        401: st.sampled_from(["", "Basic YTpi", "Bearer", f"Bearer {forged}", f"Bearer {scarce[:-5]}"]),
        403: st.just(f"Bearer {scarce}"),
    }

    @generated
    @given(case=any_case(label), data=st.data(), status=st.sampled_from([401, 403]))
    def is_refused(case: schemathesis.Case[Any], data: st.DataObject, status: int) -> None:
        # Headers are generated as well, this one among them.
        sent = case.as_transport_kwargs()
        # With a line break or a slash in its variables, a path is another one.
        assume(function.match(unquote(sent["path"])) is not None)
        others = {name: value for name, value in sent.pop("headers").items() if name.lower() != "authorization"}
        answer = Client(GATEWAY).open(**sent, headers=others | {"Authorization": data.draw(shown[status])})
        assert answer.status_code == status, (case, answer.text)
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="cfm"')
        assert answer.get_json()["code"] == status

    is_refused()


@pytest.mark.parametrize("label", LABELS)
def test_a_token_is_not_ignored(shared_api: Api, label: str) -> None:
    """What is answered with a token is not answered without it, nor with another."""

    @settings(generated, max_examples=1)
    @given(case=any_case(label))
    def is_needed(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(headers=dict(shared_api.headers), checks=[ignored_auth])

    is_needed()
