"""HashiCorp Vault and OpenBao; the one module that knows hvac.

What goes wrong becomes ``RecoverableError`` where the same call may work later, and ``FatalError`` where it will not. Neither
holds, nor has as its cause, anything that quotes a token or a secret.

Source: dataspace service contracts, section 10.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import hvac
import hvac.adapters
import requests
from requests.adapters import HTTPAdapter

from cfm_core.clients.http import LONGEST_MESSAGE, Answer
from cfm_core.clients.vault_login import AppRoleLogin, JwtLogin, JwtRole, Login, TokenLogin
from cfm_core.contracts.secrets import checked_path
from cfm_core.errors import FatalError, RecoverableError

_NOT_ALLOWED = frozenset({401, 403})
_LATER = frozenset({408, 412, 425, 429, 472, 473, 500, 502, 503, 504})
_FRESH = 0.8
"""A token is renewed after this part of its life."""
_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class _Lease:
    """A token, as the client that shows it; instants are in seconds of the clock."""

    client: hvac.Client = field(repr=False)
    lifetime: float
    renewable: bool
    renew_at: float
    expires_at: float


class Vault:
    """A vault as somebody who has logged in sees it; safe to share between threads.

    It logs in at the first call, renews its token while it holds, and logs in again where it cannot be renewed or is refused.

    Args:
        address: the server's, without ``/v1``.
        namespace: where the server has several; empty: none.
        timeout: how long an answer may take.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        address: str,
        login: Login,
        *,
        namespace: str = "",
        timeout: timedelta = timedelta(seconds=10),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address.rstrip("/")
        self._login = login
        self._namespace = namespace
        self._timeout = timeout
        self._clock = clock
        self._stranger = self._client("")
        for scheme in ("http://", "https://"):
            self._stranger.session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
        self._lease: _Lease | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Vault {self._address}>"

    def close(self) -> None:
        """Let go of all connections."""
        self._stranger.session.close()

    # Secrets, in engines of version 2; ValidationError where a path is none

    def find_secret(self, mount: str, path: str) -> Mapping[str, Any] | None:
        """The newest version's fields; None where there is no such secret, or it is deleted."""
        checked_path(path)
        answer = self._send(
            f"reading the secret {path!r} of {mount}",
            lambda client: client.secrets.kv.v2.read_secret_version(
                path, mount_point=mount, raise_on_deleted_version=True
            ),
        )
        if answer is None:
            return None
        found = _document(answer, "data").get("data")
        if not isinstance(found, dict):
            raise FatalError(f"the vault answers without the fields of the secret {path!r} of {mount}")
        return found

    def write_secret(self, mount: str, path: str, fields: Mapping[str, str]) -> None:
        """Add a version, whether there is one or not."""
        what = f"writing the secret {path!r} of {mount}"
        checked_path(path)
        written = self._send(
            what,
            lambda client: client.secrets.kv.v2.create_or_update_secret(path, dict(fields), mount_point=mount),
            tells=False,
        )
        _there(written, what)

    def delete_secret(self, mount: str, path: str) -> None:
        """Delete a secret with all its versions; no matter if there is none."""
        checked_path(path)
        self._send(
            f"deleting the secret {path!r} of {mount}",
            lambda client: client.secrets.kv.v2.delete_metadata_and_all_versions(path, mount_point=mount),
        )

    def list_secrets(self, mount: str, folder: str) -> list[str]:
        """The names in a folder, those of folders with a slash at the end; none where there is no such folder."""
        checked_path(folder)
        answer = self._send(
            f"listing the folder {folder!r} of {mount}",
            lambda client: client.secrets.kv.v2.list_secrets(folder, mount_point=mount),
        )
        keys = [] if answer is None else _document(answer, "data").get("keys")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise FatalError(f"the vault answers without the names in the folder {folder!r} of {mount}")
        return keys

    def delete_folder(self, mount: str, folder: str) -> None:
        """Delete all secrets in a folder and in those below it; no matter if there are none."""
        for key in self.list_secrets(mount, folder):
            if key.endswith("/"):
                self.delete_folder(mount, f"{folder}/{key.rstrip('/')}")
            else:
                self.delete_secret(mount, f"{folder}/{key}")

    # Who may do what

    def put_policy(self, name: str, text: str) -> None:
        """Write a policy, whether there is one or not."""
        what = f"writing the policy {name!r}"
        _there(self._send(what, lambda client: client.sys.create_or_update_acl_policy(name, text)), what)

    def delete_policy(self, name: str) -> None:
        """Delete a policy; no matter if there is none. Tokens that have it are worth nothing from now on."""
        self._send(f"deleting the policy {name!r}", lambda client: client.sys.delete_acl_policy(name))  # type: ignore[no-untyped-call]

    def put_jwt_role(self, mount: str, name: str, role: JwtRole) -> None:
        """Write a role of the login method at ``mount``, whether there is one or not."""
        what = f"writing the role {name!r} of auth/{mount}"
        written = self._send(
            what,
            lambda client: client.auth.jwt.create_role(
                name,
                user_claim="sub",
                allowed_redirect_uris=[],
                bound_subject=role.subject,
                bound_audiences=list(role.audiences),
                token_policies=list(role.policies),
                token_ttl=math.ceil(role.lifetime.total_seconds()),
                path=mount,
            ),
        )
        _there(written, what)

    def delete_jwt_role(self, mount: str, name: str) -> None:
        """Delete a role of the login method at ``mount``; no matter if there is none."""
        self._send(
            f"deleting the role {name!r} of auth/{mount}", lambda client: client.auth.jwt.delete_role(name, path=mount)
        )

    # Asking

    def _client(self, token: str) -> hvac.Client:
        seconds: Any = self._timeout.total_seconds()
        # With no token at all hvac would look for one in the environment and in the home folder.
        return hvac.Client(
            url=self._address,
            token=token,
            timeout=seconds,
            namespace=self._namespace or None,
            session=self._stranger.session if token else None,
            adapter=hvac.adapters.RawAdapter,
            ignore_exceptions=True,
            # Another server would be shown the token.
            allow_redirects=False,
        )

    def _send(self, what: str, action: Callable[[hvac.Client], Any], *, tells: bool = True) -> Answer | None:
        """Do ``action`` with a token that holds; None where there is no such thing.

        Args:
            tells: whether errors quote the server's message; not where it might quote a secret.
        """
        lease = None
        for _ in range(2):
            lease = self._current(refused=lease)
            answer = self._ask(what, action, lease.client)
            if answer.status == 404:
                return None
            if answer.status not in _NOT_ALLOWED:
                if 200 <= answer.status < 300:
                    return answer
                said = _said(answer, str(lease.client.token)) if tells else ""
                raise FatalError(f"the vault refuses {what} (status {answer.status}{said})")
        raise FatalError(f"the vault does not allow this token {what} (status {answer.status})")

    def _ask(self, what: str, action: Callable[[hvac.Client], Any], client: hvac.Client) -> Answer:
        """What the server answers.

        Raises:
            RecoverableError: nothing, or that it is not able to answer now.
        """
        # The text of these errors may quote what was sent, so none of it is passed on or kept as a cause.
        try:
            response: requests.Response = action(client)
        except requests.Timeout:
            seconds = f"{self._timeout.total_seconds():g} s"
            raise RecoverableError(f"{what}: the vault does not answer within {seconds}") from None
        except requests.RequestException as error:
            raise RecoverableError(f"{what}: the vault cannot be reached ({type(error).__name__})") from None
        answer = Answer(what, response.status_code, response.headers, response.content)
        if answer.status in _LATER:
            raise RecoverableError(
                f"{what}: the vault is not able to answer now (status {answer.status})", answer.retry_after
            )
        return answer

    # Being somebody

    def _current(self, refused: _Lease | None) -> _Lease:
        """A token that holds, and is another than the refused one."""
        with self._lock:
            lease, now = self._lease, self._clock()
            if lease is not None and lease is not refused and now < lease.expires_at:
                if now >= lease.renew_at:
                    lease = self._renewed(lease)
            else:
                lease = None
            self._lease = lease = lease or self._log_in()
            return lease

    def _renewed(self, lease: _Lease) -> _Lease | None:
        """The same token for longer; None where it is better to log in again."""
        asked_at = self._clock()
        try:
            answer = self._ask(
                "renewing the token",
                lambda client: client.auth.token.renew_self(f"{lease.lifetime:.0f}s"),
                lease.client,
            )
        except RecoverableError:
            return None
        if not 200 <= answer.status < 300:
            return None
        _, lifetime, renewable = _authentication(answer)
        # Near the end of the longest life that it may have, it is given less and less.
        if lifetime < lease.lifetime / 2:
            return None
        return _Lease(lease.client, lease.lifetime, renewable, asked_at + lifetime * _FRESH, asked_at + lifetime)

    def _log_in(self) -> _Lease:
        login = self._login
        credential = _read(login.file)
        if isinstance(login, TokenLogin):
            return _Lease(self._client(credential), math.inf, False, math.inf, math.inf)
        asked_at = self._clock()
        what = f"logging in at auth/{login.mount}"
        match login:
            case JwtLogin():
                what += f" as {login.role!r}"
                answer = self._ask(
                    what,
                    lambda client: client.auth.jwt.jwt_login(login.role, credential, use_token=False, path=login.mount),
                    self._stranger,
                )
            case AppRoleLogin():
                answer = self._ask(
                    what,
                    lambda client: client.auth.approle.login(
                        login.role_id, credential, use_token=False, mount_point=login.mount
                    ),
                    self._stranger,
                )
        if not 200 <= answer.status < 300:
            said = _said(answer, credential)
            raise FatalError(f"{what}: the vault does not let this agent in (status {answer.status}{said})")
        token, lifetime, renewable = _authentication(answer)
        if not lifetime:
            return _Lease(self._client(token), math.inf, False, math.inf, math.inf)
        renew_at = asked_at + lifetime * _FRESH if renewable else math.inf
        return _Lease(self._client(token), lifetime, renewable, renew_at, asked_at + lifetime)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise FatalError(f"what this process logs in to the vault with cannot be read: {error}") from error
    except ValueError:
        # Without the cause, which quotes the file.
        raise FatalError(f"what this process logs in to the vault with is not text: {file}") from None


def _document(answer: Answer, part: str) -> Mapping[str, Any]:
    """A part of the answer's document, which must be an object."""
    found = answer.object().get(part)
    if not isinstance(found, dict):
        raise FatalError(f"{answer.call}: the vault answers without {part!r}")
    return found


def _authentication(answer: Answer) -> tuple[str, float, bool]:
    """The token that an answer gives, how long it holds, in seconds (0: for ever), and whether it can be renewed."""
    found = _document(answer, "auth")
    token, lifetime = found.get("client_token"), found.get("lease_duration")
    if not isinstance(token, str) or not token or not isinstance(lifetime, int):
        raise FatalError(f"{answer.call}: the vault answers without a token")
    return token, lifetime, found.get("renewable") is True


def _there(answer: Answer | None, what: str) -> None:
    """Nothing can be written to where nothing is mounted."""
    if answer is None:
        raise FatalError(
            f"the vault has no place for {what}: nothing is mounted there, or it is not shown to this token"
        )


def _said(answer: Answer, shown: str) -> str:
    """What the server says about a refusal; nothing where it quotes the secret that it was shown."""
    try:
        errors = answer.object().get("errors")
    except FatalError:
        return ""
    text = "; ".join(map(str, errors)) if isinstance(errors, list) else ""
    return f": {' '.join(text.split())[:LONGEST_MESSAGE]}" if text and shown not in text else ""
