from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cfm_core.declaration import HttpFunction
from cfm_core.settings import Settings
from cfm_core.web.auth import TM_READ, TM_WRITE
from tests.integration.tenant_manager.api import DECLARED, Api, client_of
from tests.support.tokens import Issuer

GUARDED = [one for one in DECLARED if isinstance(one, HttpFunction) and one.scope is not None]


@pytest.fixture
def issuer(tmp_path: Path, serve: Callable[[Settings], None], database_url: str) -> Issuer:
    issuer = Issuer(tmp_path)
    serve(Settings.from_environ({**issuer.environ, "CFM_DATABASE_URL": database_url}))
    return issuer


def bearing(token: str) -> Api:
    return Api({"Authorization": f"Bearer {token}"})


def test_a_token_with_the_scope_is_let_in(issuer: Issuer) -> None:
    created = bearing(issuer.token(TM_WRITE)).post("/tenants", {})
    assert created.status == 201
    assert bearing(issuer.token(TM_READ)).get(f"/tenants/{created.json['id']}").status == 200


@pytest.mark.parametrize("function", GUARDED, ids=lambda function: function.name)
def test_reading_takes_the_scope_to_read_and_all_else_the_one_to_write(function: HttpFunction) -> None:
    reads = function.method == "GET" or function.path.endswith("/query")
    assert function.scope == (TM_READ if reads else TM_WRITE)


@pytest.mark.parametrize("function", GUARDED, ids=lambda function: function.name)
def test_every_route_names_the_scope_that_a_token_lacks(issuer: Issuer, function: HttpFunction) -> None:
    path = function.path.replace("{", "").replace("}", "")
    other = TM_READ if function.scope == TM_WRITE else TM_WRITE
    headers = {"Authorization": f"Bearer {issuer.token(other)}"}
    refused = client_of(function).open(path, method=function.method, headers=headers, data=b"{")
    assert refused.status_code == 403
    document = refused.get_json()
    assert document["message"] == f"Access not granted: required scope '{function.scope}' not present"
    assert (document["error"], document["code"]) == ("Forbidden", 403)


@pytest.mark.parametrize("function", GUARDED, ids=lambda function: function.name)
def test_no_route_answers_without_a_token(issuer: Issuer, function: HttpFunction) -> None:
    path = function.path.replace("{", "").replace("}", "")
    refused = client_of(function).open(path, method=function.method)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert refused.get_json()["error"] == "Unauthorized"
