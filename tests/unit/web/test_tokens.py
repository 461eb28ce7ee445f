"""Which tokens are accepted, and how the others are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cfm_core.errors import InvalidTokenError, RecoverableError, UnauthorizedError
from cfm_core.web.auth import TM_READ, Principal
from cfm_core.web.key_sets import ALGORITHMS, FRESH_SECONDS
from cfm_core.web.tokens import LEEWAY_SECONDS, LONGEST, REMEMBERED, JwtAuthenticator, TrustedIssuer
from tests.support.tokens import AUDIENCE, Issuer, PrivateKey, jwk_of, new_key


class Clock:
    """Stands still unless it is moved."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


@pytest.fixture
def authenticator(issuer: Issuer) -> JwtAuthenticator:
    return JwtAuthenticator([trusted(issuer)])


def trusted(issuer: Issuer, audience: str = AUDIENCE, audience_claim: str = "aud") -> TrustedIssuer:
    return TrustedIssuer(
        issuer=issuer.name, audience=audience, audience_claim=audience_claim, jwks_url=issuer.file.as_uri()
    )


def authenticated(authenticator: JwtAuthenticator, token: str) -> Principal:
    return authenticator.authenticate(f"Bearer {token}")


def refusal(authenticator: JwtAuthenticator, token: str) -> str:
    """Why a token is refused."""
    with pytest.raises(InvalidTokenError) as caught:
        authenticated(authenticator, token)
    return str(caught.value)


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def forged(header: object, claims: object, signature: bytes = b"") -> str:
    parts = (one if isinstance(one, bytes) else json.dumps(one).encode() for one in (header, claims))
    return ".".join([*map(encoded, parts), encoded(signature)])


def claims_of(issuer: Issuer) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(issuer.token(), options={"verify_signature": False})
    return claims


# What is accepted


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("named", [True, False])
def test_a_good_token_gives_who_calls_and_with_which_scopes(tmp_path: Path, algorithm: str, named: bool) -> None:
    issuer = Issuer(tmp_path, algorithm=algorithm)
    if not named:
        issuer.publish(jwk_of(issuer.key, "1", algorithm, alg=None, use=None))
    principal = authenticated(JwtAuthenticator([trusted(issuer)]), issuer.token(TM_READ, claims={"roles": ["auditor"]}))
    assert principal == Principal("tester", frozenset({TM_READ}), issuer.name)
    assert principal.claims["roles"] == ["auditor"]
    with pytest.raises(TypeError):
        principal.claims["roles"] = ["administrator"]  # type: ignore[index]


def test_four_algorithms_are_accepted_and_nothing_else() -> None:
    assert sorted(ALGORITHMS) == ["ES256", "EdDSA", "PS256", "RS256"]


def test_the_scheme_is_written_in_any_case(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    assert authenticator.authenticate(f"bEARER   {issuer.token()} ").subject == "tester"


def test_a_token_need_not_name_its_key_where_there_is_one_only(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    token = issuer.token(headers={"kid": None})
    assert authenticated(authenticator, token).subject == "tester"
    issuer.publish(jwk_of(issuer.key, "1", "EdDSA"), jwk_of(new_key(), "2", "EdDSA"))
    assert "key" in refusal(JwtAuthenticator([trusted(issuer)]), token)


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["another", AUDIENCE]])
def test_the_audience_is_contained(issuer: Issuer, authenticator: JwtAuthenticator, audience: object) -> None:
    assert authenticated(authenticator, issuer.token(claims={"aud": audience})).subject == "tester"


@pytest.mark.parametrize("aud", [None, "another", ["another"]])
def test_another_claim_can_name_the_audience(issuer: Issuer, aud: object) -> None:
    authenticator = JwtAuthenticator([trusted(issuer, "console", "azp")])
    assert authenticated(authenticator, issuer.token(claims={"azp": "console", "aud": aud})).subject == "tester"


@pytest.mark.parametrize("scope", [None, [TM_READ], {"x": TM_READ}, 1])
def test_scopes_count_only_as_a_string(issuer: Issuer, authenticator: JwtAuthenticator, scope: object) -> None:
    token = issuer.token(claims={"scope": scope, "scp": [TM_READ], "roles": [TM_READ]})
    assert authenticated(authenticator, token).scopes == frozenset()


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_clocks_may_differ_a_little(issuer: Issuer, authenticator: JwtAuthenticator, claim: str) -> None:
    early = issuer.token(claims={claim: time.time() + LEEWAY_SECONDS / 2})
    assert authenticated(authenticator, early).subject == "tester"
    far_too_early = issuer.token(claims={claim: time.time() + LEEWAY_SECONDS + 60})
    assert refusal(authenticator, far_too_early) == "the token is not valid yet"


# What is refused


@pytest.mark.parametrize("header", [None, "", "Basic abc", "Bearer", "Bearer ", "Bearer\ta.b.c", "abc"])
def test_without_a_token_it_is_said_that_there_is_none(authenticator: JwtAuthenticator, header: str | None) -> None:
    with pytest.raises(UnauthorizedError, match="a bearer token is required") as caught:
        authenticator.authenticate(header)
    assert not isinstance(caught.value, InvalidTokenError)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": None}, "the token has no claim exp"),
        ({"exp": "2099999999"}, "the token is malformed"),
        ({"exp": [2099999999]}, "the token is malformed"),
        ({"exp": True}, "the token has expired"),
        ({"exp": 1}, "the token has expired"),
        ({"exp": float("inf")}, "the token is malformed"),
        ({"exp": float("nan")}, "the token is malformed"),
        ({"nbf": "soon"}, "the token is malformed"),
        ({"nbf": 10**300}, "the token is not valid yet"),
        ({"iss": None}, "the token is of an issuer that is not accepted"),
        ({"iss": "https://somebody.else"}, "the token is of an issuer that is not accepted"),
        ({"iss": "https://issuer.test/"}, "the token is of an issuer that is not accepted"),
        ({"iss": ["https://issuer.test"]}, "the token is of an issuer that is not accepted"),
        ({"iss": {}}, "the token is of an issuer that is not accepted"),
        ({"aud": None}, "the token has no claim aud"),
        ({"aud": []}, "the token has no claim aud"),
        ({"aud": "another"}, "the token is for another audience"),
        ({"aud": "cfm2"}, "the token is for another audience"),
        ({"aud": ["cfm", 1]}, "the token is for another audience"),
        ({"aud": {"cfm": 1}}, "the token is for another audience"),
        ({"azp": "cfm", "aud": "another"}, "the token is for another audience"),
        ({"sub": 5}, "the token is malformed"),
        ({"sub": "a\0"}, "the token is malformed"),
        ({"sub": "\ud800"}, "the token is malformed"),
        ({"sub": "a\nb"}, "the token is malformed"),
        ({"sub": "x" * 256}, "the token is malformed"),
    ],
    ids=ascii,
)
def test_a_token_that_is_not_for_us_is_refused_with_the_reason(
    issuer: Issuer, authenticator: JwtAuthenticator, claims: dict[str, object], reason: str
) -> None:
    assert refusal(authenticator, _signed(issuer, claims)) == reason


def _signed(issuer: Issuer, changes: dict[str, object]) -> str:
    """A token whose claims no library would write."""
    claims = {name: value for name, value in (claims_of(issuer) | changes).items() if value is not None}
    return jwt.PyJWS().encode(json.dumps(claims).encode(), issuer.key, issuer.algorithm, {"kid": "1", "typ": "JWT"})


@pytest.mark.parametrize("value", [None, "another", ["console"], "console ", {"console": 1}, True])
def test_another_claim_has_to_be_equal_to_the_audience(issuer: Issuer, value: object) -> None:
    authenticator = JwtAuthenticator([trusted(issuer, "console", "azp")])
    reason = refusal(authenticator, issuer.token(claims={"azp": value, "aud": "console"}))
    assert reason == ("the token has no claim azp" if value is None else "the token is for another audience")


def test_a_token_is_never_good_after_its_end(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    assert refusal(authenticator, issuer.token(claims={"exp": time.time() - 1})) == "the token has expired"


def test_a_token_signed_by_another_key_is_refused(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    assert refusal(authenticator, issuer.token(key=new_key())) == "the token's signature is wrong"
    assert "key that is not known" in refusal(authenticator, issuer.token(headers={"kid": "2"}))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_that_was_changed_is_refused(tmp_path: Path, algorithm: str) -> None:
    issuer = Issuer(tmp_path, algorithm=algorithm)
    authenticator = JwtAuthenticator([trusted(issuer)])
    header, _, signature = issuer.token(TM_READ).split(".")
    other = encoded(json.dumps(claims_of(issuer)).encode())
    for changed in (f"{header}.{other}.{signature}", f"{header}.{other}."):
        assert refusal(authenticator, changed) == "the token's signature is wrong"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "", "HS256", "HS384", "HS512", "RS384", "ES512", "x", None, 1]
)
def test_other_algorithms_are_refused_before_a_key_is_looked_for(
    issuer: Issuer, authenticator: JwtAuthenticator, algorithm: object
) -> None:
    issuer.file.unlink()
    header = {"alg": algorithm, "kid": "1", "typ": "JWT"}
    for signature in (b"", b"x" * 64):
        assert "algorithm" in refusal(authenticator, forged(header, claims_of(issuer), signature))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_no_secret_to_sign_with(tmp_path: Path, algorithm: str) -> None:
    issuer = Issuer(tmp_path, algorithm=algorithm)
    public = issuer.key.public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        issuer.file.read_bytes(),
    ]
    for claimed in ("HS256", algorithm):
        signed = forged({"alg": claimed, "kid": "1"}, claims_of(issuer)).rpartition(".")[0]
        for secret in secrets:
            token = f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
            assert refusal(JwtAuthenticator([trusted(issuer)]), token)


def test_a_key_verifies_only_what_it_is_for(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path, algorithm="RS256")
    authenticator = JwtAuthenticator([trusted(issuer)])
    authenticated(authenticator, issuer.token())
    claims, headers = claims_of(issuer), {"kid": "1"}
    for other in ("PS256", "RS512"):
        assert refusal(authenticator, jwt.encode(claims, issuer.key, other, headers))
    for other in ("ES256", "EdDSA"):
        assert refusal(authenticator, jwt.encode(claims, new_key(other), other, headers))


def test_a_token_does_not_say_where_its_key_is(issuer: Issuer, authenticator: JwtAuthenticator, tmp_path: Path) -> None:
    own = new_key()
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"keys": [jwk_of(own, "1", "EdDSA")]}))
    brought = {"jwk": jwk_of(own, "1", "EdDSA"), "jku": other.as_uri(), "x5u": other.as_uri(), "x5c": ["x"]}
    assert refusal(authenticator, issuer.token(key=own, headers=brought)) == "the token's signature is wrong"


@pytest.mark.parametrize("path", ["../other.json", "/etc/passwd", "1' OR '1'='1", "1\x00", "https://a/", "ü"])
def test_the_name_of_a_key_is_nothing_but_a_name(issuer: Issuer, authenticator: JwtAuthenticator, path: str) -> None:
    assert "key that is not known" in refusal(authenticator, issuer.token(headers={"kid": path}))


@pytest.mark.parametrize(
    "headers", [{"crit": ["exp"], "exp": 1}, {"crit": []}, {"crit": "b64"}, {"b64": False}], ids=str
)
def test_what_has_to_be_understood_and_is_not_is_refused(
    issuer: Issuer, authenticator: JwtAuthenticator, headers: dict[str, object]
) -> None:
    header = {"alg": "EdDSA", "kid": "1", **headers}
    signed = forged(header, claims_of(issuer)).rpartition(".")[0]
    assert isinstance(issuer.key, PrivateKey)
    token = f"{signed}.{encoded(issuer.key.sign(signed.encode()))}"  # type: ignore[call-arg]
    assert refusal(authenticator, token) == "the token is malformed"


GOOD = {"alg": "EdDSA", "kid": "1"}
MALFORMED: dict[str, Callable[[Issuer], str]] = {
    "a word": lambda _: "not-a-token",
    "one part": lambda issuer: issuer.token().split(".")[0],
    "two parts": lambda issuer: issuer.token().rpartition(".")[0],
    "four parts": lambda issuer: issuer.token() + ".x",
    "five parts, encrypted": lambda _: "a.b.c.d.e",
    "dots": lambda _: "." * LONGEST,
    "empty parts": lambda _: "..",
    "two tokens": lambda issuer: f"{issuer.token()},Bearer {issuer.token()}",
    "padded": lambda issuer: issuer.token() + "===",
    "quoted": lambda issuer: f'"{issuer.token()}"',
    "not ASCII": lambda issuer: issuer.token() + "ü",
    "half a character": lambda issuer: issuer.token() + "\ud800",
    "NUL": lambda issuer: issuer.token() + "\0",
    "header no JSON": lambda _: forged(b"{", {}),
    "header no object": lambda _: forged([], {}),
    "header not UTF-8": lambda _: forged(b"\xff\xfe", {}),
    "header deep": lambda _: forged(b"[" * 5000, {}),
    "header many digits": lambda _: forged(b'{"alg":' + b"9" * 5000 + b"}", {}),
    "claims no JSON": lambda _: forged(GOOD, b"}"),
    "claims no object": lambda _: forged(GOOD, b"null"),
    "claims an array": lambda _: forged(GOOD, b"[]"),
    "claims deep": lambda _: forged(GOOD, b'{"a":' * 1000),
    "claims deep arrays": lambda _: forged(GOOD, b"[" * 5000),
    "claims not UTF-8": lambda _: forged(GOOD, b'{"iss":"\xff"}'),
    "kid a number": lambda issuer: forged(GOOD | {"kid": 1}, claims_of(issuer)),
    "kid an object": lambda issuer: forged(GOOD | {"kid": {"a": 1}}, claims_of(issuer)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_token_is_refused_in_plain_words(issuer: Issuer, authenticator: JwtAuthenticator, name: str) -> None:
    assert refusal(authenticator, MALFORMED[name](issuer)) == "the token is malformed"


def test_no_token_is_looked_at_that_is_too_long(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    usual = {"exp": round(time.time()) + 600}
    shortest = issuer.token(claims={"x": "", **usual})
    longest = issuer.token(claims={"x": "y" * ((LONGEST - len(shortest)) * 3 // 4 - 2), **usual})
    assert LONGEST - 8 < len(longest) <= LONGEST
    assert authenticated(authenticator, longest).subject == "tester"
    assert (
        refusal(authenticator, issuer.token(claims={"x": "y" * LONGEST})) == "the token has more than 8192 characters"
    )
    assert refusal(authenticator, "." * 5_000_000) == "the token has more than 8192 characters"


def test_no_reason_repeats_anything_of_the_token(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    canary = "canary-9f2c"
    tried = [
        issuer.token(claims={"iss": canary}),
        issuer.token(claims={"aud": canary}),
        issuer.token(claims={"nbf": canary}),
        issuer.token(headers={"kid": canary}),
        forged({"alg": canary}, {}),
        canary,
    ]
    for token in tried:
        assert canary not in refusal(authenticator, token)


# Several issuers


def test_each_issuer_has_keys_and_an_audience_of_its_own(tmp_path: Path) -> None:
    first, second = Issuer(tmp_path, "https://first"), Issuer(tmp_path, "https://second", "ES256")
    authenticator = JwtAuthenticator([trusted(first), trusted(second, "console", "azp")])
    assert authenticated(authenticator, first.token()).issuer == "https://first"
    assert authenticated(authenticator, second.token(claims={"azp": "console"})).issuer == "https://second"
    assert refusal(authenticator, second.token()) == "the token has no claim azp"
    assert refusal(authenticator, first.token(claims={"aud": "console", "azp": "console"}))


def test_no_issuer_speaks_for_another(tmp_path: Path) -> None:
    first = Issuer(tmp_path, "https://first")
    (tmp_path / "second").mkdir()
    second = Issuer(tmp_path / "second", "https://second")
    authenticator = JwtAuthenticator([trusted(first), trusted(second)])
    assert refusal(authenticator, second.token(claims={"iss": "https://first"})) == "the token's signature is wrong"


@pytest.mark.parametrize(
    ("url", "name"),
    [("", "urn:no:address"), ("ftp://a/b", "x"), ("jwks.json", "x"), ("http://", "x"), ("data:,{}", "x")],
)
def test_an_issuer_without_a_usable_address_is_refused_at_once(url: str, name: str) -> None:
    with pytest.raises(ValueError, match="is no http: or https: address"):
        JwtAuthenticator([TrustedIssuer(issuer=name, audience=AUDIENCE, jwks_url=url)])


def test_an_issuer_is_named_once(issuer: Issuer) -> None:
    with pytest.raises(ValueError, match="named twice"):
        JwtAuthenticator([trusted(issuer), trusted(issuer, "another")])


# What is remembered


def test_a_remembered_token_ends_with_its_expiry(issuer: Issuer) -> None:
    wall = Clock(time.time())
    authenticator = JwtAuthenticator([trusted(issuer)], clock=Clock(), wall=wall)
    token = issuer.token(claims={"exp": wall.now + 5})
    authenticated(authenticator, token)
    wall.now += 4.99
    authenticated(authenticator, token)
    wall.now += 0.01
    assert refusal(authenticator, token) == "the token has expired"


class Counting(JwtAuthenticator):
    """Notes the tokens that are verified, not remembered."""

    def __init__(self, issuer: Issuer, **more: Any) -> None:
        super().__init__([trusted(issuer)], **more)
        self.verified: list[str] = []

    def _verify(self, token: str) -> tuple[Principal, float]:
        self.verified.append(token)
        return super()._verify(token)


def test_a_token_is_verified_once_and_again_before_a_minute_is_over(issuer: Issuer) -> None:
    clock, token = Clock(), issuer.token()
    authenticator = Counting(issuer, clock=clock)
    for _ in range(3):
        assert authenticated(authenticator, token).subject == "tester"
    assert authenticator.verified == [token]
    clock.now = FRESH_SECONDS
    assert clock.now < 60
    authenticated(authenticator, token)
    assert authenticator.verified == [token] * 2


def test_a_withdrawn_key_is_out_within_a_minute(issuer: Issuer) -> None:
    clock = Clock()
    authenticator = JwtAuthenticator([trusted(issuer)], clock=clock)
    tokens = [issuer.token(claims={"jti": str(number)}) for number in range(3)]
    for token in tokens:
        # Tokens that are seen later than the keys are forgotten earlier.
        authenticated(authenticator, token)
        clock.now += FRESH_SECONDS / 4
    issuer.publish(jwk_of(new_key(), "2", "EdDSA"))
    clock.now = FRESH_SECONDS - 0.01
    assert [authenticated(authenticator, token).subject for token in tokens] == ["tester"] * 3
    clock.now = 60.0
    for token in tokens:
        assert "key that is not known" in refusal(authenticator, token)


def test_a_key_that_was_replaced_under_its_name_is_out_within_a_minute(issuer: Issuer) -> None:
    clock, token = Clock(), issuer.token()
    authenticator = JwtAuthenticator([trusted(issuer)], clock=clock)
    authenticated(authenticator, token)
    issuer.publish(jwk_of(new_key(), "1", "EdDSA"))
    clock.now = 60.0
    assert refusal(authenticator, token) == "the token's signature is wrong"


def test_only_so_many_tokens_are_remembered(issuer: Issuer) -> None:
    authenticator = Counting(issuer)
    oldest, *others = tokens = [issuer.token(claims={"jti": str(number)}) for number in range(REMEMBERED + 1)]
    for token in (*tokens, *others):
        authenticated(authenticator, token)
    assert authenticator.verified == tokens
    authenticated(authenticator, oldest)
    assert authenticator.verified == [*tokens, oldest]


def test_a_refused_token_is_not_remembered(issuer: Issuer) -> None:
    authenticator, token = Counting(issuer), issuer.token(claims={"aud": "another"})
    for _ in range(2):
        refusal(authenticator, token)
    assert authenticator.verified == [token] * 2


def test_no_thread_is_taken_for_another(issuer: Issuer) -> None:
    # So few are remembered that all the time some make room for others.
    authenticator = JwtAuthenticator([trusted(issuer)], remembered=4)
    known = {issuer.token(claims={"sub": f"user-{number}"}): f"user-{number}" for number in range(12)}

    def work(shift: int) -> bool:
        order = list(known)[shift:] + list(known)[:shift]
        return all(authenticated(authenticator, token).subject == known[token] for _ in range(30) for token in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


# Keys that cannot be had


def test_keys_that_cannot_be_fetched_are_not_the_callers_fault(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    issuer.file.unlink()
    with pytest.raises(RecoverableError):
        authenticated(authenticator, issuer.token())


def test_a_key_set_that_cannot_be_read_is_not_the_callers_fault(
    issuer: Issuer, authenticator: JwtAuthenticator
) -> None:
    issuer.file.write_text("<html>be right back</html>")
    with pytest.raises(RecoverableError):
        authenticated(authenticator, issuer.token())
