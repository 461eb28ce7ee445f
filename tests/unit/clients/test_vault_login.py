from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cfm_core.clients.vault_login import AppRoleLogin, JwtLogin, Login, TokenLogin, login_of
from cfm_core.settings import Settings

POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@pytest.mark.parametrize(
    ("settings", "login"),
    [
        ({"vault_token_file": "/t"}, TokenLogin(Path("/t"))),
        ({"vault_auth": "kubernetes", "vault_role": "r"}, JwtLogin("r", POD, "kubernetes")),
        (
            {"vault_auth": "jwt", "vault_role": "r", "vault_jwt_file": "/j", "vault_auth_mount": "cell-1"},
            JwtLogin("r", Path("/j"), "cell-1"),
        ),
        (
            {"vault_auth": "approle", "vault_role": "id", "vault_secret_id_file": "/s"},
            AppRoleLogin("id", Path("/s"), "approle"),
        ),
    ],
)
def test_the_login_is_the_one_of_the_settings(settings: dict[str, Any], login: Login) -> None:
    assert login_of(Settings(**settings)) == login
