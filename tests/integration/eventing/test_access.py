"""Every way of being somebody at NATS, and of knowing that it is NATS, against a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cfm_core.contracts import subjects
from cfm_core.eventing.access import user_key
from local.servers.nats import EmbeddedNats
from tests.integration.eventing.conftest import StartTrigger
from tests.integration.eventing.harness import TriggerProcess, fine, serving, until
from tests.integration.eventing.test_delivery import Waking, an_event, put, rows
from tests.integration.eventing.test_refusals import result_target
from tests.support.certificates import Authority
from tests.support.nkeys import KeyPair, credentials

StartNats = Callable[..., EmbeddedNats]
ALL = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
LIMITS = {
    "subs": -1,
    "conn": -1,
    "leaf": -1,
    "imports": -1,
    "exports": -1,
    "data": -1,
    "payload": -1,
    "wildcards": True,
}


@pytest.fixture
def start_nats(tmp_path: Path) -> Iterator[StartNats]:
    """Starts a server whose users, or whose TLS, a test says."""
    started: list[EmbeddedNats] = []

    def start(**settings: Any) -> EmbeddedNats:
        name = f"nats-{len(started)}"
        started.append(EmbeddedNats(tmp_path / name, tmp_path / f"{name}.log", settings=settings))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def told(start_trigger: StartTrigger) -> Callable[[EmbeddedNats, Mapping[str, str]], TriggerProcess]:
    """Starts a trigger that is told where NATS is, and nothing else of it but what a test says."""

    def start(nats: EmbeddedNats, environ: Mapping[str, str]) -> TriggerProcess:
        url = environ.get("CFM_NATS_URL", f"nats://127.0.0.1:{nats.port}")
        return start_trigger([], told={**environ, "CFM_NATS_URL": url})

    return start


Told = Callable[[EmbeddedNats, Mapping[str, str]], TriggerProcess]


def written(file: Path, text: str) -> str:
    file.write_text(text)
    return str(file)


def refused(told: Told, nats: EmbeddedNats, environ: Mapping[str, str], why: str) -> TriggerProcess:
    """A trigger that works without NATS, because of ``why``: the server's word, or its own."""
    before = len(nats.log.read_text())
    trigger = told(nats, environ)
    until(lambda: why in (nats.log.read_text()[before:] + trigger.text()).lower())
    until(trigger.state)
    assert trigger.state()["nats"] is False
    return trigger


def test_a_user_and_a_password(start_nats: StartNats, told: Told, tmp_path: Path) -> None:
    nats = start_nats(authorization={"users": [{"user": "tm", "password": "right"}]})
    who = {"CFM_NATS_USER": "tm", "CFM_NATS_PASSWORD_FILE": written(tmp_path / "password", "right\n")}
    told(nats, who).wait_ready()
    wrong = who | {"CFM_NATS_PASSWORD_FILE": written(tmp_path / "wrong", "wrong-password")}
    trigger = refused(told, nats, wrong, "authentication error")
    assert "wrong-password" not in trigger.text()


def test_a_token(start_nats: StartNats, told: Told, tmp_path: Path) -> None:
    nats = start_nats(authorization={"token": "the-right-token"})
    told(nats, {"CFM_NATS_TOKEN_FILE": written(tmp_path / "token", "the-right-token\n")}).wait_ready()
    told(nats, {"CFM_NATS_URL": f"nats://the-right-token@127.0.0.1:{nats.port}"}).wait_ready()
    wrong = {"CFM_NATS_TOKEN_FILE": written(tmp_path / "wrong", "wrong-token")}
    assert "wrong-token" not in refused(told, nats, wrong, "authentication error").text()


def test_an_nkey(start_nats: StartNats, told: Told, tmp_path: Path) -> None:
    known, stranger = KeyPair("U"), KeyPair("U")
    nats = start_nats(authorization={"users": [{"nkey": known.public}]})
    told(nats, {"CFM_NATS_NKEY_SEED_FILE": written(tmp_path / "seed", known.seed)}).wait_ready()
    wrong = {"CFM_NATS_NKEY_SEED_FILE": written(tmp_path / "wrong", stranger.seed)}
    assert stranger.seed not in refused(told, nats, wrong, "authentication error").text()


def test_a_credentials_file(start_nats: StartNats, told: Told, tmp_path: Path) -> None:
    operator, account, system = KeyPair("O"), KeyPair("A"), KeyPair("A")
    user, stranger = KeyPair("U"), KeyPair("U")
    of_account = {"limits": {**LIMITS, **ALL}, "type": "account", "version": 2}
    of_user = {"subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2}
    of_system = {"limits": LIMITS, "type": "account", "version": 2}
    nats = start_nats(
        authorization={},
        operator=operator.jwt(operator, "operator", {"type": "operator", "version": 2}),
        system_account=system.public,
        resolver="MEMORY",
        resolver_preload={
            account.public: operator.jwt(account, "cfm", of_account),
            system.public: operator.jwt(system, "system", of_system),
        },
    )
    jwt = account.jwt(user, "tm", of_user)
    told(nats, {"CFM_NATS_CREDENTIALS_FILE": written(tmp_path / "tm.creds", credentials(jwt, user))}).wait_ready()
    # Somebody has got hold of the JWT, and signs with another key.
    stolen = written(tmp_path / "stolen.creds", credentials(jwt, stranger))
    trigger = refused(told, nats, {"CFM_NATS_CREDENTIALS_FILE": stolen}, "authentication error")
    assert jwt not in trigger.text()


def test_a_password_that_is_changed_counts_from_the_next_connection_on(
    start_nats: StartNats, start_trigger: StartTrigger, waking_database: Waking, tmp_path: Path
) -> None:
    nats = start_nats()
    nats.admit([{"user": "pm", "password": "the first one"}])
    password = tmp_path / "password"
    password.write_text("the first one")
    with serving({"results": fine}) as functions:
        environ = {
            "CFM_NATS_URL": f"nats://127.0.0.1:{nats.port}",
            "CFM_NATS_USER": "pm",
            "CFM_NATS_PASSWORD_FILE": str(password),
        }
        trigger = start_trigger([result_target(functions)], handover="jetstream", told=environ)
        trigger.wait_ready()
        password.write_text("the second one")
        nats.admit([{"user": "pm", "password": "the second one"}])
        nats.stop()
        until(lambda: trigger.state()["nats"] is False)
        nats.start()
        until(lambda: trigger.state()["nats"] is True)
        database = waking_database(trigger)
        put(database, subjects.RESULTS, an_event("later"))
        functions.wait(lambda: functions.ids("results") == {"later": 1})
        until(lambda: rows(database) == 0)


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"CFM_NATS_USER": "tm"}, "CFM_NATS_USER and CFM_NATS_PASSWORD_FILE go together"),
        ({"CFM_NATS_PASSWORD_FILE": "f"}, "CFM_NATS_USER and CFM_NATS_PASSWORD_FILE go together"),
        ({"CFM_NATS_KEY_FILE": "f"}, "CFM_NATS_KEY_FILE is set without CFM_NATS_CERTIFICATE_FILE"),
        (
            {"CFM_NATS_TOKEN_FILE": "f", "CFM_NATS_NKEY_SEED_FILE": "g"},
            "CFM_NATS_TOKEN_FILE and CFM_NATS_NKEY_SEED_FILE are set",
        ),
    ],
)
def test_half_an_identity_or_two_are_refused_at_the_start(
    own_nats: EmbeddedNats, told: Told, environ: dict[str, str], complaint: str
) -> None:
    trigger = told(own_nats, environ)
    assert trigger.wait_exit() == 1
    assert complaint in trigger.text()


def mistyped(seed: str) -> str:
    """One letter is another: in the middle, since some of the last one's bits mean nothing."""
    return seed[:30] + ("A" if seed[30] != "A" else "B") + seed[31:]


@pytest.mark.parametrize(
    "text",
    ["", "SUAAA", KeyPair("A").seed, KeyPair("U").public, mistyped(KeyPair("U").seed)],
    ids=["nothing", "too short", "of an account", "public", "mistyped"],
)
def test_what_is_no_seed_of_a_user_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="no seed of a NATS user") as caught:
        user_key(text)
    assert not text or text not in str(caught.value)


def test_a_seed_gives_the_key_that_the_format_says() -> None:
    pair = KeyPair("U")
    assert user_key(f"{pair.seed}\n").public == pair.public


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "known")


@pytest.fixture
def guarded(start_nats: StartNats, authority: Authority) -> EmbeddedNats:
    """A server that encrypts, and asks for a certificate."""
    server = authority.issue("nats", "127.0.0.1")
    tls = {
        "cert_file": str(server.certificate),
        "key_file": str(server.key),
        "ca_file": str(authority.ca),
        "verify": True,
    }
    return start_nats(authorization={"token": "token"}, tls=tls)


def test_both_sides_prove_who_they_are(guarded: EmbeddedNats, told: Told, authority: Authority, tmp_path: Path) -> None:
    client = authority.issue("trigger")
    known = {
        "CFM_NATS_URL": f"tls://token@127.0.0.1:{guarded.port}",
        "CFM_NATS_CA_FILE": str(authority.ca),
        "CFM_NATS_CERTIFICATE_FILE": str(client.certificate),
        "CFM_NATS_KEY_FILE": str(client.key),
    }
    told(guarded, known).wait_ready()

    other = Authority(tmp_path, "other")
    refused(told, guarded, known | {"CFM_NATS_CA_FILE": str(other.ca)}, "certificate_verify_failed")

    forged = other.issue("trigger")
    certificate = {"CFM_NATS_CERTIFICATE_FILE": str(forged.certificate), "CFM_NATS_KEY_FILE": str(forged.key)}
    refused(told, guarded, known | certificate, "tls handshake error")

    without = {name: value for name, value in known.items() if "CERTIFICATE" not in name and "KEY" not in name}
    refused(told, guarded, without, "client didn't provide a certificate")


def test_a_server_of_another_name_is_refused(start_nats: StartNats, told: Told, authority: Authority) -> None:
    server = authority.issue("somewhere-else")
    nats = start_nats(
        authorization={"token": "token"}, tls={"cert_file": str(server.certificate), "key_file": str(server.key)}
    )
    environ = {"CFM_NATS_URL": f"tls://token@127.0.0.1:{nats.port}", "CFM_NATS_CA_FILE": str(authority.ca)}
    refused(told, nats, environ, "certificate_verify_failed")


@pytest.mark.parametrize("by", ["url", "file"])
def test_nothing_is_told_to_a_server_that_does_not_encrypt_and_has_to(
    own_nats: EmbeddedNats, told: Told, authority: Authority, by: str
) -> None:
    url = own_nats.url.replace("nats://", "tls://") if by == "url" else own_nats.url
    environ = {"CFM_NATS_URL": url} | ({"CFM_NATS_CA_FILE": str(authority.ca)} if by == "file" else {})
    refused(told, own_nats, environ, "the server does not encrypt, and has to")
    assert "cfm" not in own_nats.log.read_text().partition("Server is ready")[2]
