"""Which authentication the settings ask for."""

from __future__ import annotations

import json

import pytest

from cfm_core.assembly import InitContext, ServiceRegistry
from cfm_core.assembly.auth import JwtAssembly, auth_assembly, trusted_issuers
from cfm_core.assembly.listeners import is_loopback
from cfm_core.errors import FatalError
from cfm_core.settings import Settings
from cfm_core.web.tokens import TrustedIssuer

ONE = {"CFM_AUTH_ISSUER": "https://one", "CFM_AUTH_AUDIENCE": "cfm"}


def test_one_issuer_is_told_by_a_variable_for_each_thing() -> None:
    settings = {**ONE, "CFM_AUTH_AUDIENCE_CLAIM": "azp", "CFM_AUTH_JWKS_URL": "https://one/keys"}
    assert trusted_issuers(Settings.from_environ(settings)) == [
        TrustedIssuer(issuer="https://one", audience="cfm", audience_claim="azp", jwks_url="https://one/keys")
    ]
    assert trusted_issuers(Settings.from_environ(ONE)) == [TrustedIssuer(issuer="https://one", audience="cfm")]


def test_more_issuers_are_told_as_json() -> None:
    more = [
        {"issuer": "https://two", "audience": "x"},
        {"issuer": "https://three", "audience": "y", "audienceClaim": "azp", "jwksUrl": "file:///keys.json"},
    ]
    two = TrustedIssuer(issuer="https://two", audience="x")
    three = TrustedIssuer(issuer="https://three", audience="y", audience_claim="azp", jwks_url="file:///keys.json")
    alone = Settings.from_environ({"CFM_AUTH_ISSUERS": json.dumps(more)})
    assert trusted_issuers(alone) == [two, three]
    together = Settings.from_environ({**ONE, "CFM_AUTH_ISSUERS": json.dumps(more)})
    assert trusted_issuers(together) == [TrustedIssuer(issuer="https://one", audience="cfm"), two, three]


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, "CFM_AUTH_ISSUER and CFM_AUTH_AUDIENCE must both be set"),
        ({"CFM_AUTH_ISSUERS": "[]"}, "CFM_AUTH_ISSUER and CFM_AUTH_AUDIENCE must both be set"),
        ({"CFM_AUTH_ISSUER": "https://one"}, "CFM_AUTH_AUDIENCE must both be set"),
        ({"CFM_AUTH_AUDIENCE": "cfm"}, "CFM_AUTH_ISSUER and"),
        (
            {"CFM_AUTH_JWKS_URL": "https://one/keys", "CFM_AUTH_ISSUERS": '[{"issuer": "https://a", "audience": "b"}]'},
            "CFM_AUTH_ISSUER and",
        ),
        ({"CFM_AUTH_ISSUERS": "{"}, "CFM_AUTH_ISSUERS is not JSON"),
        ({"CFM_AUTH_ISSUERS": "{}"}, "CFM_AUTH_ISSUERS is not an array of issuers"),
        ({"CFM_AUTH_ISSUERS": '["https://a"]'}, "CFM_AUTH_ISSUERS is not an array of issuers: 0"),
        ({"CFM_AUTH_ISSUERS": '[{"issuer": "https://a"}]'}, "0.audience: Field required"),
        ({"CFM_AUTH_ISSUERS": '[{"issuer": "https://a", "audience": ""}]'}, "0.audience: "),
        ({"CFM_AUTH_ISSUERS": '[{"issuer": "https://a", "audience": "b", "jwks": "c"}]'}, "0.jwks: Extra inputs"),
    ],
)
def test_what_is_missing_or_wrong_is_named(environ: dict[str, str], told: str) -> None:
    with pytest.raises(FatalError, match=told):
        trusted_issuers(Settings.from_environ(environ))


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({**ONE, "CFM_AUTH_JWKS_URL": "keys.json"}, "'keys.json' is no http: or https: address"),
        ({**ONE, "CFM_AUTH_ISSUER": "urn:one"}, "'urn:one' is no http: or https: address"),
        ({**ONE, "CFM_AUTH_ISSUERS": '[{"issuer": "https://one", "audience": "b"}]'}, "named twice"),
    ],
)
def test_an_issuer_that_cannot_be_used_keeps_the_process_from_starting(environ: dict[str, str], told: str) -> None:
    with pytest.raises(FatalError, match=f"CFM_AUTH_ISSUERS cannot be used: .*{told}"):
        JwtAssembly().init(InitContext(ServiceRegistry(), Settings.from_environ(environ)))


def test_authentication_is_on_off_or_a_mistake() -> None:
    assert auth_assembly(Settings()).name == "auth-jwt"
    assert auth_assembly(Settings(auth="off")).name == "auth-off"
    for wrong in ("", "none", "OFF", "false"):
        with pytest.raises(FatalError, match=r"CFM_AUTH is '.*'; it must be jwt or off"):
            auth_assembly(Settings(auth=wrong))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *(("127.0.0.1", True), ("127.255.0.3", True), ("::1", True)),
        *(("0.0.0.0", False), ("::", False), ("", False), ("10.0.0.1", False), ("::ffff:10.0.0.1", False)),
        *(("localhost", False), ("128.0.0.1", False), ("fe80::1%lo", False)),
    ],
)
def test_only_addresses_of_the_machine_itself_are_loopback(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected
