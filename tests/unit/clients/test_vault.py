"""What the vault's client passes on of what a server says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cfm_core.clients.vault import Vault
from cfm_core.clients.vault_login import AppRoleLogin, JwtLogin, Login, TokenLogin
from cfm_core.errors import FatalError

SECRETS = ("s3cret-credential", "s3cret-value")


class Echo(BaseHTTPRequestHandler):
    """Refuses everything, and quotes the body that it was sent or, without one, the head."""

    def _answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        body = json.dumps({"errors": [f"bad request: {sent or self.headers}"]}).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def credential(tmp_path: Path) -> Path:
    file = tmp_path / "credential"
    file.write_text(SECRETS[0])
    return file


def refusal(url: str, login: Login, action: str) -> str:
    vault = Vault(url, login)
    with pytest.raises(FatalError) as caught:
        match action:
            case "read":
                vault.find_secret("secret", "a")
            case "write":
                vault.write_secret("secret", "a", {"content": SECRETS[1]})
            case "policy":
                vault.put_policy("p", "a policy")
    vault.close()
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize("action", ["read", "write", "policy"])
def test_no_token_and_no_value_is_quoted(url: str, credential: Path, action: str) -> None:
    said = refusal(url, TokenLogin(credential), action)
    assert "status 400" in said
    assert not any(secret in said for secret in SECRETS)


@pytest.mark.parametrize("kind", ["jwt", "approle"])
def test_no_credential_of_a_login_is_quoted(url: str, credential: Path, kind: str) -> None:
    login = JwtLogin("r", credential, "jwt") if kind == "jwt" else AppRoleLogin("r", credential, "approle")
    said = refusal(url, login, "read")
    assert f"logging in at auth/{kind}" in said
    assert not any(secret in said for secret in SECRETS)


def test_no_other_server_is_shown_the_token(url: str, credential: Path) -> None:
    asked: list[str] = []

    class Elsewhere(Echo):
        def _redirect(self) -> None:
            asked.append(self.path)
            self.send_response(307)
            self.send_header("Location", f"{url}/v1/secret/data/a")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = _redirect

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            # What is behind the redirect would say 400, and quote the token.
            assert "status 307" in refusal(f"http://127.0.0.1:{server.server_port}", TokenLogin(credential), "read")
        finally:
            server.shutdown()
            thread.join()
    assert len(asked) == 1
