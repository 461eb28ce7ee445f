"""Whatever comes as a token or as events ends in a plain refusal, and never in an error that is not ours."""

from __future__ import annotations

import base64
import json
import os
import string
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cfm_core.errors import UnauthorizedError, ValidationError
from cfm_core.eventing.cloudevents import BATCH, STRUCTURED, from_nats, from_request, time_of
from cfm_core.web.auth import Principal
from cfm_core.web.tokens import JwtAuthenticator, TrustedIssuer
from tests.support.tokens import AUDIENCE, ISSUER, Issuer

many = settings(
    max_examples=int(os.environ.get("CFM_EXAMPLES", "300")),
    derandomize="CFM_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

texts = st.text(max_size=30)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 10**400, 2**63, 1e308, float("inf"), float("-inf"), float("nan")]),
    st.floats(),
    texts,
    st.sampled_from(["", "\0", "\ud800", ISSUER, AUDIENCE, "EdDSA", "none", "1", "1.0", "2026-01-01T00:00:00Z"]),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


def some(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these members and others, of any value."""
    return st.dictionaries(st.sampled_from(names) | texts, values, max_size=6)


headers = some("alg", "kid", "typ", "jwk", "jku", "x5u", "crit", "b64", "enc", "zip", "cty")
claims = some("iss", "aud", "sub", "exp", "nbf", "iat", "scope", "jti")


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def text_of(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module")
def authenticator(issuer: Issuer) -> JwtAuthenticator:
    told = TrustedIssuer(issuer=issuer.name, audience=AUDIENCE, jwks_url=Path(issuer.file).as_uri())
    return JwtAuthenticator([told])


def judged(authenticator: JwtAuthenticator, authorization: str) -> Principal | str:
    """Whom a header speaks for, or why it is refused."""
    try:
        return authenticator.authenticate(authorization)
    except UnauthorizedError as error:
        return str(error)


@many
@given(st.one_of(texts, texts.map("Bearer {}".format), st.binary(max_size=80).map(lambda raw: raw.decode("latin-1"))))
def test_whatever_a_header_holds_it_is_refused(authenticator: JwtAuthenticator, text: str) -> None:
    with pytest.raises(UnauthorizedError):
        authenticator.authenticate(text)


@many
@given(st.data())
def test_whatever_parts_a_token_has_it_is_refused(authenticator: JwtAuthenticator, data: st.DataObject) -> None:
    part = st.one_of(
        headers.map(text_of).map(encoded),
        claims.map(text_of).map(encoded),
        st.binary(max_size=40).map(encoded),
        st.text(string.ascii_letters + string.digits + "-_+/=", max_size=40),
    )
    token = ".".join(data.draw(st.lists(part, min_size=1, max_size=5)))
    with pytest.raises(UnauthorizedError):
        authenticator.authenticate(f"Bearer {token}")


@many
@given(headers, claims, st.booleans())
def test_whatever_a_token_holds_the_answer_is_a_principal_or_a_refusal(
    issuer: Issuer, authenticator: JwtAuthenticator, header: dict[str, Any], said: dict[str, Any], usual: bool
) -> None:
    """Tokens that are signed as they should be, so that all that follows sees what they hold."""
    told = {"alg": "EdDSA", "kid": issuer.key_id} | (header if not usual else {})
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "s", "exp": int(time.time()) + 60, "scope": "a b"}
    signed = f"{encoded(text_of(told))}.{encoded(text_of(good | said))}"
    signature = jwt.get_algorithm_by_name("EdDSA").sign(signed.encode(), issuer.key)
    found = judged(authenticator, f"Bearer {signed}.{encoded(signature)}")
    if isinstance(found, str):
        assert found.startswith("the token ")
    else:
        assert found.issuer == ISSUER
        assert found.subject.isprintable()
        assert found.claims["exp"] > time.time()


@many
@given(st.data())
def test_a_good_token_that_is_changed_is_refused(
    issuer: Issuer, authenticator: JwtAuthenticator, data: st.DataObject
) -> None:
    token = issuer.token("a", claims={"exp": 99999999999})
    place = data.draw(st.integers(0, len(token)))
    until = data.draw(st.integers(place, min(place + 4, len(token))))
    # Space around a token is no part of it.
    visible = st.text(st.characters(exclude_categories=["Z", "C"]), max_size=4)
    changed = token[:place] + data.draw(visible) + token[until:]
    assume(changed != token)
    with pytest.raises(UnauthorizedError):
        authenticator.authenticate(f"Bearer {changed}")


attributes = some(
    "id", "source", "type", "specversion", "subject", "time", "data", "data_base64", "datacontenttype", "dataschema"
)
events = st.one_of(
    values,
    attributes,
    attributes.map(lambda more: {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": {}} | more),
)


def are_events(found: list[dict[str, Any]]) -> None:
    """What was taken for events has what handlers rely on."""
    for one in found:
        assert all(isinstance(one[name], str) and one[name] for name in ("id", "source", "type"))
        time_of(one)


@many
@given(
    st.one_of(st.sampled_from([BATCH, STRUCTURED, "application/json", ""]), texts),
    st.one_of(events.map(text_of), st.lists(events, max_size=3).map(text_of), st.binary(max_size=60)),
    st.dictionaries(
        st.sampled_from(["ce-id", "ce-source", "ce-type", "ce-specversion", "ce-time", "ce-subject", "ce-x", "ce-"]),
        texts | st.sampled_from(["1.0", "0.3", "", "%", "%ff", "%00"]),
        max_size=6,
    ),
)
def test_whatever_a_request_holds_it_is_events_or_a_refusal(kind: str, body: bytes, more: dict[str, str]) -> None:
    try:
        found, _ = from_request({"Content-Type": kind, **more}, body)
    except ValidationError:
        return
    are_events(found)


@many
@given(
    st.one_of(st.sampled_from([BATCH, STRUCTURED, "application/json", ""]), texts),
    st.one_of(events.map(text_of), st.lists(events, max_size=3).map(text_of), st.binary(max_size=60)),
    st.dictionaries(
        st.sampled_from(["ce-id", "ce-source", "ce-type", "ce-specversion", "traceparent", "tracestate", "Ce-Id"]),
        texts | st.sampled_from(["1.0", "", "%", "%ff", "%00"]),
        max_size=6,
    ),
)
def test_whatever_a_message_holds_it_is_events_or_a_refusal(kind: str, body: bytes, more: dict[str, str]) -> None:
    try:
        found = from_nats("event.x", {"Content-Type": kind, **more}, body, fallback_id="f")
    except ValidationError:
        return
    are_events(found)


@pytest.mark.parametrize("depth", [900, 5_000, 100_000])
def test_no_depth_is_too_much(authenticator: JwtAuthenticator, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    for kind in (BATCH, STRUCTURED, "application/json"):
        with pytest.raises(ValidationError):
            from_request({"Content-Type": kind}, deep)
        with pytest.raises(ValidationError):
            from_nats("event.x", {"Content-Type": kind, "ce-specversion": "1.0"}, deep, fallback_id="f")
    with pytest.raises(UnauthorizedError):
        authenticator.authenticate(f"Bearer {encoded(deep[:3000])}.{encoded(deep[:3000])}.AA")
