"""Tokens that are none, are not ours, are not good any more, or allow something else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from cfm_core.web.auth import ALL_SCOPES, TM_READ
from local.issuer import AUDIENCE, ISSUER
from tests.security.attack import Attack, request
from tests.security.ground import BASE, GUARDED, Ground
from tests.security.wire import Answer, Headers

READ = ("GET", "/tenants/{tenant_id}")
STRANGER = Ed25519PrivateKey.generate()

REQUIRED = "a bearer token is required"
MALFORMED = "the token is malformed"
ALGORITHM = "the token is signed with an algorithm that is not accepted"
ISSUED = "the token is of an issuer that is not accepted"
UNKNOWN_KEY = "the token is signed by a key that is not known"
SIGNATURE = "the token's signature is wrong"
EXPIRED = "the token has expired"
EARLY = "the token is not valid yet"
AUDIENCE_IS_WRONG = "the token is for another audience"

Sign = Callable[[Ground, bytes], bytes]


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def ours(ground: Ground, signed: bytes) -> bytes:
    return ground.key.sign(signed)


def strangers(_: Ground, signed: bytes) -> bytes:
    return STRANGER.sign(signed)


def empty(_: Ground, __: bytes) -> bytes:
    return b""


def under(secret: Callable[[Ground], bytes]) -> Sign:
    return lambda ground, signed: hmac.digest(secret(ground), signed, hashlib.sha256)


def public(encoding: Encoding, form: PublicFormat) -> Callable[[Ground], bytes]:
    return lambda ground: ground.key.public_key().public_bytes(encoding, form)


def jws(
    header: Mapping[str, Any] | str, claims: Mapping[str, Any] | str | None = None, sign: Sign = ours
) -> Callable[[Ground], str]:
    """A token of any header and any claims, the usual ones if None, with the signature that ``sign`` makes."""

    def make(ground: Ground) -> str:
        told = header if isinstance(header, str) else json.dumps(header)
        said = json.dumps(ground.claims()) if claims is None else claims
        said = said if isinstance(said, str) else json.dumps(said)
        signed = f"{encoded(told.encode())}.{encoded(said.encode())}"
        return f"{signed}.{encoded(sign(ground, signed.encode()))}"

    return make


def claims(**changes: object) -> Callable[[Ground], str]:
    """A token of the stack's issuer with other claims; None leaves one out."""
    return lambda ground: ground.signed(changes)


def raw_claims(**texts: str) -> Callable[[Ground], str]:
    """A token of the stack's issuer in which these claims are written as they are here."""

    def make(ground: Ground) -> str:
        usual = {name: json.dumps(value) for name, value in ground.claims().items()} | texts
        said = "{" + ",".join(f'"{name}":{text}' for name, text in usual.items()) + "}"
        return jws({"alg": "EdDSA", "kid": "local"}, said)(ground)

    return make


def headers(**changes: object) -> Callable[[Ground], str]:
    """A token of the stack's issuer with more in its header."""
    return jws({"alg": "EdDSA", "typ": "JWT", "kid": "local"} | changes)


def of_stranger(**changes: object) -> Callable[[Ground], str]:
    """A stranger's token, whose header says how its key could be had."""
    return jws({"alg": "EdDSA", "typ": "JWT", "kid": "local"} | changes, sign=strangers)


def jwk(key: Ed25519PrivateKey) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get_default_algorithms()["EdDSA"].to_jwk(key.public_key()))
    return found


def changed(change: Callable[[str], str]) -> Callable[[Ground], str]:
    """A good token after ``change``."""
    return lambda ground: change(ground.token())


def part(number: int, change: Callable[[str], str]) -> Callable[[Ground], str]:
    """A good token of which one part is changed."""

    def of(token: str) -> str:
        parts = token.split(".")
        parts[number] = change(parts[number])
        return ".".join(parts)

    return changed(of)


def for_every_function() -> Iterator[Attack]:
    """What must open no function, once for each of them."""
    for function in GUARDED:
        path = function.path.removeprefix(BASE)
        others = [scope for scope in ALL_SCOPES if scope != function.scope]
        scoped = f"required scope '{function.scope}' not present"
        for name, token, status, says in (
            ("no token", None, 401, REQUIRED),
            ("a stranger's key", of_stranger(), 401, SIGNATURE),
            ("no signature", jws({"alg": "none"}, sign=empty), 401, ALGORITHM),
            ("an old token", claims(exp=1), 401, EXPIRED),
            ("a token for others", claims(aud="another"), 401, AUDIENCE_IS_WRONG),
            ("all other scopes", claims(scope=" ".join(others)), 403, scoped),
        ):
            yield request(f"{function.name}, {name}", function.method, path, status, says, token=token, body=b"{")


ALGORITHMS: dict[str, tuple[Mapping[str, Any], Sign, str]] = {
    **{f"alg {word!r}": ({"alg": word}, empty, ALGORITHM) for word in ("none", "None", "NONE", "nOnE", "")},
    "alg null": ({"alg": None}, ours, ALGORITHM),
    "alg a number": ({"alg": 1}, ours, ALGORITHM),
    "alg a list": ({"alg": ["EdDSA"]}, ours, ALGORITHM),
    "no alg": ({"typ": "JWT"}, ours, ALGORITHM),
    "alg in small letters": ({"alg": "eddsa"}, ours, ALGORITHM),
    "alg with a space": ({"alg": "EdDSA "}, ours, ALGORITHM),
    "Ed25519 by its newer name": ({"alg": "Ed25519"}, ours, ALGORITHM),
    "HS256, the key's bytes as secret": ({"alg": "HS256"}, under(public(Encoding.Raw, PublicFormat.Raw)), ALGORITHM),
    "HS256, the key's PEM as secret": (
        {"alg": "HS256"},
        under(public(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
        ALGORITHM,
    ),
    "HS256, the key's DER as secret": (
        {"alg": "HS256"},
        under(public(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        ALGORITHM,
    ),
    "HS256, the key set as secret": (
        {"alg": "HS256", "kid": "local"},
        under(lambda ground: (ground.stack.data / "issuer" / "jwks.json").read_bytes()),
        ALGORITHM,
    ),
    "HS256, no secret": ({"alg": "HS256"}, under(lambda _: b""), ALGORITHM),
    "HS256, an empty file as secret": (
        {"alg": "HS256", "kid": "../../../../dev/null"},
        under(lambda _: b""),
        ALGORITHM,
    ),
    "HS512": ({"alg": "HS512"}, under(lambda _: b"secret"), ALGORITHM),
    "RS256 over our own signature": ({"alg": "RS256", "kid": "local"}, ours, UNKNOWN_KEY),
    "ES256 with nothing but zeros": ({"alg": "ES256", "kid": "local"}, lambda *_: bytes(64), UNKNOWN_KEY),
    "EdDSA with nothing but zeros": ({"alg": "EdDSA", "kid": "local"}, lambda *_: bytes(64), SIGNATURE),
    # The neutral element as R, and S = 0: good under a key that is the neutral element itself.
    "EdDSA with a point of small order": (
        {"alg": "EdDSA", "kid": "local"},
        lambda *_: b"\1" + bytes(63),
        SIGNATURE,
    ),
    "EdDSA with no signature": ({"alg": "EdDSA", "kid": "local"}, empty, SIGNATURE),
    "EdDSA with half a signature": ({"alg": "EdDSA", "kid": "local"}, lambda g, s: ours(g, s)[:32], SIGNATURE),
    "EdDSA with a signature and more": ({"alg": "EdDSA", "kid": "local"}, lambda g, s: ours(g, s) + b"\0", SIGNATURE),
    "a signature over something else": (
        {"alg": "EdDSA", "kid": "local"},
        lambda g, s: ours(g, s + b"x"),
        SIGNATURE,
    ),
    "PS256": ({"alg": "PS256", "kid": "local"}, ours, UNKNOWN_KEY),
    "ES384": ({"alg": "ES384", "kid": "local"}, ours, ALGORITHM),
    "ES256K": ({"alg": "ES256K", "kid": "local"}, ours, ALGORITHM),
    "an encrypted token": ({"alg": "dir", "enc": "A128GCM"}, ours, ALGORITHM),
}

KEY_IDS: dict[str, tuple[Any, str]] = {
    "another key": ("another", UNKNOWN_KEY),
    "a path": ("../../../../etc/passwd", UNKNOWN_KEY),
    "a path of the stack": ("issuer/key.pem", UNKNOWN_KEY),
    "SQL": ("local' OR '1'='1", UNKNOWN_KEY),
    "SQL that adds a key": ("x' UNION SELECT 'AAAA' --", UNKNOWN_KEY),
    "an address": ("https://keys.example/jwks.json", UNKNOWN_KEY),
    "an address of the machine": ("http://169.254.169.254/latest/meta-data", UNKNOWN_KEY),
    "a command": ("local; id", UNKNOWN_KEY),
    "a command in back quotes": ("`id`", UNKNOWN_KEY),
    "a template": ("{{7*7}}${7*7}", UNKNOWN_KEY),
    "a lookup": ("${jndi:ldap://keys.example/a}", UNKNOWN_KEY),
    "a NUL": ("local\0", UNKNOWN_KEY),
    "a line break": ("local\r\nX-Injected: 1", UNKNOWN_KEY),
    "other letters": ("LOCAL", UNKNOWN_KEY),
    "a space": (" local", UNKNOWN_KEY),
    "very long": ("k" * 4000, UNKNOWN_KEY),
    "empty": ("", UNKNOWN_KEY),
    "a letter beyond ASCII": ("l\u043ecal", UNKNOWN_KEY),
    "half a character": ("\ud800", UNKNOWN_KEY),
    "a number": (1, MALFORMED),
    "a list": (["local"], MALFORMED),
    "an object": ({"local": 1}, MALFORMED),
    "true": (True, MALFORMED),
}

CLAIMS: dict[str, tuple[Callable[[Ground], str], str]] = {
    "exp a moment ago": (lambda ground: ground.signed({"exp": int(time.time()) - 1}), EXPIRED),
    "exp now": (lambda ground: ground.signed({"exp": int(time.time())}), EXPIRED),
    "exp zero": (claims(exp=0), EXPIRED),
    "exp negative": (claims(exp=-1), EXPIRED),
    "no exp": (claims(exp=None), "the token has no claim exp"),
    "exp null": (raw_claims(exp="null"), "the token has no claim exp"),
    "exp a text": (claims(exp="tomorrow"), MALFORMED),
    "exp a number as text": (raw_claims(exp='"99999999999"'), MALFORMED),
    "exp a list": (claims(exp=[99999999999]), MALFORMED),
    "exp an object": (claims(exp={}), MALFORMED),
    "exp true": (claims(exp=True), EXPIRED),
    "exp false": (claims(exp=False), EXPIRED),
    "exp NaN": (raw_claims(exp="NaN"), MALFORMED),
    "exp infinite": (raw_claims(exp="Infinity"), MALFORMED),
    "exp too large a number": (raw_claims(exp="1e999"), MALFORMED),
    "exp of too many digits": (raw_claims(exp="9" * 5000), MALFORMED),
    "exp twice, the last one old": (raw_claims(exp='99999999999,"exp":1'), EXPIRED),
    "nbf in an hour": (lambda ground: ground.signed({"nbf": int(time.time()) + 3600}), EARLY),
    "nbf beyond the leeway": (lambda ground: ground.signed({"nbf": int(time.time()) + 60}), EARLY),
    "nbf a text": (claims(nbf="now"), MALFORMED),
    "nbf a list": (claims(nbf=[0]), MALFORMED),
    "nbf infinite": (raw_claims(nbf="Infinity"), MALFORMED),
    "nbf NaN": (raw_claims(nbf="NaN"), MALFORMED),
    "iat in an hour": (lambda ground: ground.signed({"iat": int(time.time()) + 3600}), EARLY),
    "iat a text": (claims(iat="then"), MALFORMED),
    "iat infinite": (raw_claims(iat="-Infinity"), MALFORMED),
    "no iss": (claims(iss=None), ISSUED),
    "iss of another": (claims(iss="https://issuer.example"), ISSUED),
    "iss a list": (jws({"alg": "EdDSA", "kid": "local"}, {"iss": [ISSUER]}), ISSUED),
    "iss an object": (jws({"alg": "EdDSA", "kid": "local"}, {"iss": {ISSUER: 1}}), ISSUED),
    "iss a number": (jws({"alg": "EdDSA", "kid": "local"}, {"iss": 1}), ISSUED),
    "iss in capital letters": (claims(iss=ISSUER.upper()), ISSUED),
    "iss with a slash": (claims(iss=ISSUER + "/"), ISSUED),
    "iss with a space": (claims(iss=ISSUER + " "), ISSUED),
    "iss with a NUL": (claims(iss=ISSUER + "\0"), ISSUED),
    "iss as a prefix": (claims(iss=ISSUER + ".example"), ISSUED),
    "iss a part": (claims(iss=ISSUER[:-1]), ISSUED),
    "iss empty": (claims(iss=""), ISSUED),
    "iss an address of the machine": (claims(iss="http://169.254.169.254/"), ISSUED),
    "iss twice, the last one another": (raw_claims(iss=f'"{ISSUER}","iss":"https://issuer.example"'), ISSUED),
    "no aud": (claims(aud=None), "the token has no claim aud"),
    "aud of another": (claims(aud="another"), AUDIENCE_IS_WRONG),
    "aud empty": (claims(aud=""), "the token has no claim aud"),
    "aud a list of others": (claims(aud=["another", "third"]), AUDIENCE_IS_WRONG),
    "aud an empty list": (claims(aud=[]), "the token has no claim aud"),
    "aud a list in a list": (claims(aud=[[AUDIENCE]]), AUDIENCE_IS_WRONG),
    "aud a list with a number": (claims(aud=[AUDIENCE, 1]), AUDIENCE_IS_WRONG),
    "aud an object": (claims(aud={AUDIENCE: 1}), AUDIENCE_IS_WRONG),
    "aud a number": (claims(aud=1), AUDIENCE_IS_WRONG),
    "aud true": (claims(aud=True), AUDIENCE_IS_WRONG),
    "aud a part": (claims(aud=AUDIENCE[:-1]), AUDIENCE_IS_WRONG),
    "aud a prefix": (claims(aud=AUDIENCE + "2"), AUDIENCE_IS_WRONG),
    "aud in capital letters": (claims(aud=AUDIENCE.upper()), AUDIENCE_IS_WRONG),
    "aud with a space": (claims(aud=AUDIENCE + " "), AUDIENCE_IS_WRONG),
    "aud several in a text": (claims(aud=f"another {AUDIENCE}"), AUDIENCE_IS_WRONG),
    "aud several with a comma": (claims(aud=f"another,{AUDIENCE}"), AUDIENCE_IS_WRONG),
    "aud a pattern": (claims(aud="*"), AUDIENCE_IS_WRONG),
    "aud in azp": (claims(aud="another", azp=AUDIENCE), AUDIENCE_IS_WRONG),
    "aud twice, the last one another": (raw_claims(aud=f'"{AUDIENCE}","aud":"another"'), AUDIENCE_IS_WRONG),
    "sub with a line break": (claims(sub="a\nb"), MALFORMED),
    "sub with a NUL": (claims(sub="a\0"), MALFORMED),
    "sub with an escape": (claims(sub="\x1b[2J"), MALFORMED),
    "sub that turns the text around": (claims(sub="a\u202eb"), MALFORMED),
    "sub half a character": (claims(sub="\ud800"), MALFORMED),
    "sub too long": (claims(sub="s" * 256), MALFORMED),
    "sub a number": (claims(sub=1), MALFORMED),
    "sub a list": (claims(sub=["cfm"]), MALFORMED),
    "claims that are a list": (jws({"alg": "EdDSA", "kid": "local"}, "[]"), MALFORMED),
    "claims that are a text": (jws({"alg": "EdDSA", "kid": "local"}, '"x"'), MALFORMED),
    "claims that are null": (jws({"alg": "EdDSA", "kid": "local"}, "null"), MALFORMED),
    "claims that are no JSON": (jws({"alg": "EdDSA", "kid": "local"}, "{"), MALFORMED),
    "claims that are nothing": (jws({"alg": "EdDSA", "kid": "local"}, ""), MALFORMED),
    "claims far too deep": (jws({"alg": "EdDSA", "kid": "local"}, "[" * 5000), MALFORMED),
    "claims that are not UTF-8": (
        lambda ground: f"{ground.good.split('.')[0]}.{encoded(bytes([0x7B, 0xFF, 0x7D]))}.{encoded(bytes(64))}",
        MALFORMED,
    ),
    "claims in UTF-16": (
        lambda ground: f"{ground.good.split('.')[0]}.{encoded(json.dumps(ground.claims()).encode('utf-16'))}.AA",
        SIGNATURE,
    ),
}

HEADERS: dict[str, tuple[Callable[[Ground], str], str]] = {
    "the stranger's key inside": (lambda ground: of_stranger(jwk=jwk(STRANGER))(ground), SIGNATURE),
    "the stranger's key inside, and no kid": (
        lambda ground: jws({"alg": "EdDSA", "jwk": jwk(STRANGER)}, sign=strangers)(ground),
        SIGNATURE,
    ),
    "our key inside, the stranger's signature": (lambda ground: of_stranger(jwk=jwk(ground.key))(ground), SIGNATURE),
    "jku": (of_stranger(jku="https://keys.example/jwks.json"), SIGNATURE),
    "jku of the machine": (of_stranger(jku="http://127.0.0.1:1/jwks.json"), SIGNATURE),
    "jku a file": (of_stranger(jku="file:///etc/passwd"), SIGNATURE),
    "jku with another kid": (of_stranger(jku="https://keys.example/jwks.json", kid="theirs"), UNKNOWN_KEY),
    "x5u": (of_stranger(x5u="https://keys.example/chain.pem"), SIGNATURE),
    "x5c": (of_stranger(x5c=["MIIB"]), SIGNATURE),
    "x5t": (of_stranger(x5t="AAAA"), SIGNATURE),
    "crit unknown": (headers(crit=["cfm"], cfm=True), MALFORMED),
    "crit that names exp": (headers(crit=["exp"], exp=1), MALFORMED),
    "crit that names what is not there": (headers(crit=["cfm"]), MALFORMED),
    "crit empty": (headers(crit=[]), MALFORMED),
    "crit a text": (headers(crit="exp"), MALFORMED),
    "crit null": (headers(crit=None), MALFORMED),
    "a payload that is not encoded": (headers(b64=False, crit=["b64"]), MALFORMED),
    "a header that is a list": (jws("[]"), MALFORMED),
    "a header that is null": (jws("null"), MALFORMED),
    "a header that is a number": (jws("1"), MALFORMED),
    "a header that is no JSON": (jws("{"), MALFORMED),
    "a header that is nothing": (jws(""), MALFORMED),
    "a header far too deep": (jws('{"alg":' * 500), MALFORMED),
    "a header with a NUL behind it": (jws('{"alg":"EdDSA","kid":"local"}\0'), MALFORMED),
    "alg twice, the last one none": (jws('{"alg":"EdDSA","kid":"local","alg":"none"}'), ALGORITHM),
    "kid twice, the last one another": (jws('{"alg":"EdDSA","kid":"local","kid":"x"}'), UNKNOWN_KEY),
}

SHAPES: dict[str, tuple[Callable[[Ground], str], str]] = {
    "too long": (changed(lambda token: token + "A" * 8192), "the token has more than 8192 characters"),
    "just too long": (changed(lambda token: token.ljust(8193, "A")), "the token has more than 8192 characters"),
    "very long and nothing": (lambda _: "A" * 60_000, "the token has more than 8192 characters"),
    "as long as may be, and nothing": (lambda _: "A" * 8192, MALFORMED),
    "dots alone": (lambda _: "." * 8000, MALFORMED),
    "two dots": (lambda _: "..", MALFORMED),
    "a word": (lambda _: "admin", MALFORMED),
    "null": (lambda _: "null", MALFORMED),
    "undefined": (lambda _: "undefined", MALFORMED),
    "an object": (lambda _: "{}", MALFORMED),
    "the header alone": (changed(lambda token: token.split(".")[0]), MALFORMED),
    "no signature, no dot": (changed(lambda token: token.rpartition(".")[0]), MALFORMED),
    "no signature": (changed(lambda token: token.rpartition(".")[0] + "."), SIGNATURE),
    "no claims": (part(1, lambda _: ""), MALFORMED),
    "no header": (part(0, lambda _: ""), MALFORMED),
    "four parts": (changed(lambda token: token + ".AAAA"), MALFORMED),
    "five parts": (changed(lambda token: token + ".AAAA.AAAA"), MALFORMED),
    "one letter less": (changed(lambda token: token[:-1]), MALFORMED),
    "two letters less": (changed(lambda token: token[:-2]), SIGNATURE),
    "half": (changed(lambda token: token[: len(token) // 2]), MALFORMED),
    "one letter of the claims less": (part(1, lambda text: text[:-1]), MALFORMED),
    "claims of another token": (
        lambda ground: ".".join(
            [
                *(ground.good.split(".")[0], ground.signed({"sub": "root"}).split(".")[1]),
                ground.good.split(".")[2],
            ]
        ),
        SIGNATURE,
    ),
    "padded": (changed(lambda token: token + "=="), MALFORMED),
    "padded claims": (part(1, lambda text: text + "=" * (-len(text) % 4 or 4)), MALFORMED),
    "the other alphabet": (part(2, lambda _: "+/" * 43), MALFORMED),
    "a letter beyond the alphabet in the signature": (part(2, lambda text: "!" + text), MALFORMED),
    "a star in the header": (part(0, lambda text: text + "*"), MALFORMED),
    "a quote in the claims": (part(1, lambda text: '"' + text), MALFORMED),
    "a tilde behind it": (changed(lambda token: token + "~"), MALFORMED),
    "a signature in another spelling": (
        # The last of 86 letters has four bits that count for nothing.
        part(2, lambda text: text[:-1] + chr(ord(text[-1]) + 1)),
        MALFORMED,
    ),
    "percent signs": (changed(lambda token: token.replace(".", "%2E")), MALFORMED),
    # The server drops a header that is not ASCII.
    "letters beyond ASCII": (changed(lambda token: token + "\xe9"), REQUIRED),
    "a byte 255": (changed(lambda token: "\xff" + token), REQUIRED),
    "upside down": (changed(lambda token: token[::-1]), MALFORMED),
    "in quotes": (changed(lambda token: f'"{token}"'), MALFORMED),
    "in angle brackets": (changed(lambda token: f"<{token}>"), MALFORMED),
    "twice with a comma": (changed(lambda token: f"{token},{token}"), MALFORMED),
    "twice with a space": (changed(lambda token: f"{token} {token}"), MALFORMED),
    "and a second scheme": (changed(lambda token: f"{token}, Basic YTpi"), MALFORMED),
    "bearer twice": (changed(lambda token: f"Bearer {token}"), MALFORMED),
    "a parameter": (changed(lambda token: f'token="{token}"'), MALFORMED),
    "a semicolon behind it": (changed(lambda token: token + ";"), MALFORMED),
    "an RSA key's token": (
        lambda ground: jws(
            {"alg": "RS256", "kid": "local"},
            sign=lambda _, signed: get_default_algorithms()["RS256"].sign(
                signed, rsa.generate_private_key(public_exponent=65537, key_size=2048)
            ),
        )(ground),
        UNKNOWN_KEY,
    ),
    "a curve key's token": (
        lambda ground: jws(
            {"alg": "ES256", "kid": "local"},
            sign=lambda _, signed: get_default_algorithms()["ES256"].sign(
                signed, ec.generate_private_key(ec.SECP256R1())
            ),
        )(ground),
        UNKNOWN_KEY,
    ),
    "an event function's token": (lambda ground: ground.event_token("start_orchestrations"), MALFORMED),
    "the key of the events": (lambda ground: ground.event_key, MALFORMED),
    "a completion token": (lambda ground: ground.completion_token("waiting", "sign"), MALFORMED),
}

_ALMOST = TM_READ
SCOPES: dict[str, dict[str, object]] = {
    "none": {"scope": None},
    "empty": {"scope": ""},
    "a part": {"scope": _ALMOST[:-1]},
    "a prefix": {"scope": _ALMOST + "s"},
    "the whole family": {"scope": "tenant-manager-api"},
    "a pattern": {"scope": "tenant-manager-api:*"},
    "a star": {"scope": "*"},
    "admin": {"scope": "admin root superuser"},
    "capital letters": {"scope": _ALMOST.upper()},
    "a capital letter": {"scope": _ALMOST.capitalize()},
    "to write, which is more but not this": {"scope": "tenant-manager-api:write"},
    "of the other manager": {"scope": "provision-manager-api:read"},
    "commas": {"scope": f"x,{_ALMOST},y"},
    "a comma behind it": {"scope": _ALMOST + ","},
    "semicolons": {"scope": f"x;{_ALMOST}"},
    "plus signs": {"scope": f"x+{_ALMOST}"},
    "percent signs": {"scope": f"x%20{_ALMOST}"},
    "a line break": {"scope": f"x\n{_ALMOST}"},
    "a tab": {"scope": f"x\t{_ALMOST}"},
    "a space that does not break": {"scope": f"x\u00a0{_ALMOST}"},
    "a form feed": {"scope": f"x\f{_ALMOST}"},
    "a NUL": {"scope": f"{_ALMOST}\0"},
    "a letter that looks like another": {"scope": _ALMOST.replace("a", "\u0430")},
    "a slash": {"scope": _ALMOST.replace(":", "/")},
    "with its issuer": {"scope": f"{ISSUER}/{_ALMOST}"},
    "in quotes": {"scope": f'"{_ALMOST}"'},
    "a list": {"scope": [_ALMOST]},
    "an object": {"scope": {_ALMOST: True}},
    "a number": {"scope": 1},
    "true": {"scope": True},
    "in scp": {"scope": None, "scp": _ALMOST},
    "in scopes": {"scope": None, "scopes": [_ALMOST]},
    "in permissions": {"scope": None, "permissions": [_ALMOST]},
    "in authorities": {"scope": None, "authorities": [_ALMOST]},
    "in capital letters of the claim": {"scope": None, "Scope": _ALMOST},
    "in the subject": {"scope": None, "sub": _ALMOST},
    "in a claim of a claim": {"scope": None, "realm_access": {"scope": _ALMOST}},
}

AUTHORIZATIONS: dict[str, tuple[Callable[[Ground], Headers], str]] = {
    "empty": (lambda _: [("Authorization", "")], REQUIRED),
    "the scheme alone": (lambda _: [("Authorization", "Bearer")], REQUIRED),
    "the scheme and spaces": (lambda _: [("Authorization", "Bearer    ")], REQUIRED),
    "the token alone": (lambda ground: [("Authorization", ground.good)], REQUIRED),
    "Basic": (lambda _: [("Authorization", "Basic Y2ZtOmNmbQ==")], REQUIRED),
    "Basic with the token": (lambda ground: [("Authorization", f"Basic {ground.good}")], REQUIRED),
    "Digest": (lambda _: [("Authorization", 'Digest username="cfm"')], REQUIRED),
    "Negotiate": (lambda _: [("Authorization", "Negotiate TlRMTVNTUAAB")], REQUIRED),
    "DPoP": (lambda ground: [("Authorization", f"DPoP {ground.good}")], REQUIRED),
    "Token": (lambda ground: [("Authorization", f"Token {ground.good}")], REQUIRED),
    "a colon": (lambda ground: [("Authorization", f"Bearer: {ground.good}")], REQUIRED),
    "no space": (lambda ground: [("Authorization", f"Bearer{ground.good}")], REQUIRED),
    "a tab": (lambda ground: [("Authorization", f"Bearer\t{ground.good}")], REQUIRED),
    "an equals sign": (lambda ground: [("Authorization", f"Bearer={ground.good}")], REQUIRED),
    "a longer scheme": (lambda ground: [("Authorization", f"BearerX {ground.good}")], REQUIRED),
    "a letter that looks like another": (lambda ground: [("Authorization", f"Be\xe1rer {ground.good}")], REQUIRED),
    "an underscore": (lambda ground: [("HTTP_AUTHORIZATION", f"Bearer {ground.good}")], REQUIRED),
    "another header": (lambda ground: [("X-Authorization", f"Bearer {ground.good}")], REQUIRED),
    "a proxy's header": (lambda ground: [("Proxy-Authorization", f"Bearer {ground.good}")], REQUIRED),
    "a forwarded header": (lambda ground: [("X-Forwarded-Authorization", f"Bearer {ground.good}")], REQUIRED),
    "an original header": (lambda ground: [("X-Original-Authorization", f"Bearer {ground.good}")], REQUIRED),
    "a header with its name": (lambda ground: [("X-Access-Token", ground.good)], REQUIRED),
    "a key": (lambda ground: [("X-API-Key", ground.good)], REQUIRED),
    "a cookie": (
        lambda ground: [("Cookie", f"access_token={ground.good}; Authorization=Bearer {ground.good}")],
        REQUIRED,
    ),
    "a user that a proxy has found out": (lambda _: [("X-Remote-User", "cfm"), ("Remote-User", "cfm")], REQUIRED),
    "a subject that a proxy has found out": (
        lambda _: [("X-Forwarded-User", "cfm"), ("X-Auth-Request-User", "cfm")],
        REQUIRED,
    ),
    "a client that is near": (lambda _: [("X-Forwarded-For", "127.0.0.1"), ("Forwarded", "for=127.0.0.1")], REQUIRED),
    "a principal of the server": (lambda _: [("cfm.principal", "cfm"), ("X-Cfm-Principal", "cfm")], REQUIRED),
    "a certificate that a proxy has seen": (lambda _: [("X-SSL-Client-Verify", "SUCCESS")], REQUIRED),
    "two headers, a good one first": (
        lambda ground: [("Authorization", f"Bearer {ground.good}"), ("Authorization", "Bearer x")],
        MALFORMED,
    ),
    "two headers, a good one last": (
        lambda ground: [("Authorization", "Bearer x"), ("Authorization", f"Bearer {ground.good}")],
        MALFORMED,
    ),
    "two headers, Basic first": (
        lambda ground: [("Authorization", "Basic YTpi"), ("Authorization", f"Bearer {ground.good}")],
        REQUIRED,
    ),
    "two headers, both good": (
        lambda ground: [("Authorization", f"Bearer {ground.good}"), ("Authorization", f"Bearer {ground.good}")],
        MALFORMED,
    ),
    "two headers, one empty": (
        lambda ground: [("Authorization", ""), ("Authorization", f"Bearer {ground.good}")],
        REQUIRED,
    ),
}


def _elsewhere() -> Iterator[Attack]:
    """Tokens where none is looked for."""

    def sent(method: str, query: str, kind: str, body: Callable[[str], str]) -> Callable[[Ground], Answer]:
        def send(ground: Ground) -> Answer:
            target = ground.fill(f"{BASE}/tenants/{{tenant_id}}") + query.format(token=ground.good)
            content = [("Content-Type", kind)] if kind else []
            return ground.api.request(method, target, content, body(ground.good).encode())

        return send

    form = "application/x-www-form-urlencoded"
    for name, send in {
        "in the query": sent("GET", "?access_token={token}", "", lambda _: ""),
        "in the query as Authorization": sent("GET", "?Authorization=Bearer%20{token}", "", lambda _: ""),
        "in the query as token": sent("GET", "?token={token}&api_key={token}", "", lambda _: ""),
        "in a form": sent("PATCH", "", form, lambda token: f"access_token={token}"),
        "in the body": sent("PATCH", "", "application/json", lambda token: json.dumps({"access_token": token})),
        "in the path": sent("GET", ";access_token={token}", "", lambda _: ""),
        "in the body of a GET": sent("GET", "", form, lambda token: f"access_token={token}"),
    }.items():
        yield Attack(f"a token elsewhere, {name}", send, 401, REQUIRED)


def attacks() -> Iterator[Attack]:
    yield from for_every_function()
    for name, (header, sign, says) in ALGORITHMS.items():
        yield request(f"algorithm, {name}", *READ, 401, says, token=jws(header, sign=sign))
    for name, (kid, says) in KEY_IDS.items():
        yield request(f"kid, {name}", *READ, 401, says, token=headers(kid=kid))
    for kind, table in (("claims", CLAIMS), ("header", HEADERS), ("token", SHAPES)):
        for name, (token, says) in table.items():
            yield request(f"{kind}, {name}", *READ, 401, says, token=token)
    for name, changes in SCOPES.items():
        says = f"required scope '{TM_READ}' not present"
        yield request(f"scope, {name}", *READ, 403, says, token=claims(**changes))
    for name, (shown, says) in AUTHORIZATIONS.items():
        yield _shown(name, shown, says)
    yield from _elsewhere()


def _shown(name: str, shown: Callable[[Ground], Headers], says: str) -> Attack:
    method, path = READ
    return Attack(
        f"authorization, {name}",
        lambda ground: ground.api.request(method, ground.fill(BASE + path), shown(ground)),
        401,
        says,
    )
