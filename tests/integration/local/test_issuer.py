"""The stack's own issuer, held against what the managers accept."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from cfm_core.assembly.auth import trusted_issuers
from cfm_core.errors import UnauthorizedError
from cfm_core.settings import Settings
from cfm_core.web.auth import ALL_SCOPES, TM_READ, Principal
from cfm_core.web.tokens import JwtAuthenticator
from local.issuer import ISSUER, Issuer


def prepared(folder: Path) -> Issuer:
    issuer = Issuer(folder)
    issuer.prepare()
    return issuer


def manager_of(issuer: Issuer) -> JwtAuthenticator:
    return JwtAuthenticator(trusted_issuers(Settings.from_environ(issuer.environ)))


def test_a_token_has_all_scopes_unless_some_are_named(tmp_path: Path) -> None:
    issuer = prepared(tmp_path / "an issuer")
    manager = manager_of(issuer)
    assert manager.authenticate(f"Bearer {issuer.token()}") == Principal("cfm", frozenset(ALL_SCOPES), ISSUER)
    assert manager.authenticate(f"Bearer {issuer.token([TM_READ], 'ann')}") == Principal(
        "ann", frozenset([TM_READ]), ISSUER
    )


def test_the_key_outlives_a_restart_and_is_for_its_owner_only(tmp_path: Path) -> None:
    token = prepared(tmp_path / "issuer").token()
    manager_of(prepared(tmp_path / "issuer")).authenticate(f"Bearer {token}")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "issuer").iterdir()} == {0o600}


def test_another_stack_refuses_the_token(tmp_path: Path) -> None:
    token = prepared(tmp_path / "one").token()
    with pytest.raises(UnauthorizedError):
        manager_of(prepared(tmp_path / "other")).authenticate(f"Bearer {token}")


def test_a_token_ends_with_its_lifetime(tmp_path: Path) -> None:
    issuer = prepared(tmp_path / "issuer")
    with pytest.raises(UnauthorizedError, match="expired"):
        manager_of(issuer).authenticate(f"Bearer {issuer.token(lifetime=timedelta(seconds=-1))}")
