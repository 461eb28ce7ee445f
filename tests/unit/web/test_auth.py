from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cfm_core.errors import ForbiddenError, RecoverableError, UnauthorizedError
from cfm_core.web.auth import TM_READ, TM_WRITE, JwtAuthenticator
from tests.support.tokens import AUDIENCE, ISSUER, Issuer


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


@pytest.fixture
def authenticator(issuer: Issuer) -> JwtAuthenticator:
    return JwtAuthenticator(ISSUER, AUDIENCE, issuer.environ["CFM_AUTH_JWKS_URL"])


def test_a_good_token_gives_its_subject_and_scopes(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    principal = authenticator.authenticate(f"Bearer {issuer.token(TM_READ)}")
    assert (principal.subject, principal.scopes) == ("tester", frozenset({TM_READ}))


def test_a_principal_knows_what_the_token_says_and_shows_none_of_it(
    issuer: Issuer, authenticator: JwtAuthenticator
) -> None:
    token = issuer.token(TM_READ, claims={"roles": ["auditor"], "email": "ann@example.com"})
    principal = authenticator.authenticate(f"Bearer {token}")
    assert (principal.issuer, principal.claims["roles"]) == (ISSUER, ["auditor"])
    with pytest.raises(TypeError):
        principal.claims["roles"] = ["administrator"]  # type: ignore[index]
    assert "ann@" not in repr(principal)


def test_writing_does_not_imply_reading(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    principal = authenticator.authenticate(f"Bearer {issuer.token(TM_WRITE)}")
    with pytest.raises(ForbiddenError, match=TM_READ):
        principal.require(TM_READ)


@pytest.mark.parametrize("header", [None, "", "Basic abc", "Bearer", "Bearer ", "Bearer not-a-token"])
def test_what_is_no_bearer_token_is_refused(authenticator: JwtAuthenticator, header: str | None) -> None:
    with pytest.raises(UnauthorizedError):
        authenticator.authenticate(header)


@pytest.mark.parametrize(
    "claims",
    [{"exp": None}, {"iss": "https://somebody.else"}, {"iss": None}, {"aud": "another"}, {"aud": None}],
)
def test_a_token_that_is_not_for_us_is_refused(
    issuer: Issuer, authenticator: JwtAuthenticator, claims: dict[str, object]
) -> None:
    with pytest.raises(UnauthorizedError):
        authenticator.authenticate(f"Bearer {issuer.token(claims=claims)}")


@pytest.mark.parametrize(("claim", "seconds_from_now"), [("exp", -60), ("nbf", 600)])
def test_a_token_that_is_not_for_now_is_refused(
    issuer: Issuer, authenticator: JwtAuthenticator, claim: str, seconds_from_now: int
) -> None:
    # Reckoned when the test runs: it may be long after the tests were collected.
    token = issuer.token(claims={claim: time.time() + seconds_from_now})
    with pytest.raises(UnauthorizedError):
        authenticator.authenticate(f"Bearer {token}")


def test_a_token_signed_by_another_key_is_refused(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    with pytest.raises(UnauthorizedError):
        authenticator.authenticate(f"Bearer {issuer.token(key=Ed25519PrivateKey.generate())}")


@pytest.mark.parametrize("scope", [None, [TM_READ], {"x": TM_READ}])
def test_scopes_count_only_as_a_string(issuer: Issuer, authenticator: JwtAuthenticator, scope: object) -> None:
    token = issuer.token(claims={"scope": scope})
    assert authenticator.authenticate(f"Bearer {token}").scopes == frozenset()


def test_a_remembered_token_ends_with_its_expiry(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    token = issuer.token(claims={"exp": int(time.time()) + 2})
    authenticator.authenticate(f"Bearer {token}")
    with pytest.raises(UnauthorizedError):
        while True:
            authenticator.authenticate(f"Bearer {token}")


def test_keys_that_cannot_be_fetched_are_not_the_callers_fault(issuer: Issuer, tmp_path: Path) -> None:
    lost = JwtAuthenticator(ISSUER, AUDIENCE, (tmp_path / "nowhere.json").as_uri())
    with pytest.raises(RecoverableError):
        lost.authenticate(f"Bearer {issuer.token()}")


def test_a_key_set_that_cannot_be_read_is_not_the_callers_fault(
    issuer: Issuer, authenticator: JwtAuthenticator, tmp_path: Path
) -> None:
    (tmp_path / "jwks.json").write_text("<html>be right back</html>")
    with pytest.raises(RecoverableError):
        authenticator.authenticate(f"Bearer {issuer.token()}")
