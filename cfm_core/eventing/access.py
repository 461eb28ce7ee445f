"""How the trigger gets in at NATS: who it says it is, and how it makes sure whom it talks to.

Every file is read at each connection, so that what replaces it counts from the next one on.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import nats.errors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client

from cfm_core.errors import FatalError
from cfm_core.settings import Settings

INBOX_PREFIX = "_INBOX"

T = TypeVar("T")

_SEED_BYTES = 32
_SEED, _USER = 18 << 3, 20 << 3
_BAD_SEED = "it holds no seed of a NATS user"


@dataclass(frozen=True, slots=True)
class UserKey:
    """The key pair of a NATS user."""

    private: Ed25519PrivateKey

    @property
    def public(self) -> str:
        """The public key as NATS writes it, ``U`` and what follows."""
        raw = bytes([_USER]) + self.private.public_key().public_bytes_raw()
        return base64.b32encode(raw + _checksum(raw)).rstrip(b"=").decode()

    def sign(self, nonce: str) -> bytes:
        """The signature of what a server asks to be signed."""
        return base64.b64encode(self.private.sign(nonce.encode()))


def user_key(seed: str) -> UserKey:
    """The key pair of a seed, ``SU`` and what follows.

    Raises:
        ValueError: this is no seed of a user; the message does not quote.
    """
    text = seed.strip()
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error:
        raise ValueError(_BAD_SEED) from None
    kind = (_SEED | _USER >> 5, (_USER & 31) << 3)
    if len(raw) != 2 + _SEED_BYTES + 2 or tuple(raw[:2]) != kind or raw[-2:] != _checksum(raw[:-2]):
        raise ValueError(_BAD_SEED)
    return UserKey(Ed25519PrivateKey.from_private_bytes(raw[2:-2]))


def _checksum(raw: bytes) -> bytes:
    return binascii.crc_hqx(raw, 0).to_bytes(2, "little")


def credentials(text: str) -> tuple[str, UserKey]:
    """The JWT and the key pair in the text of a credentials file.

    Raises:
        ValueError: one of them is missing; the message does not quote.
    """
    return _section(text, "NATS USER JWT"), user_key(_section(text, "USER NKEY SEED"))


def _section(text: str, title: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    for line, following in pairwise(lines):
        if f"BEGIN {title}" in line and following:
            return following
    raise ValueError(f"it has no section {title}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One identity, by at most one method; a user and a password, or a token, may be in the URL as well.

    Raises:
        FatalError: there are several methods, or half of one.
    """

    url: str
    """Servers of one cluster, separated by commas: ``nats://host:port``, or ``tls://host:port``, which must encrypt."""
    user: str = ""
    password_file: str = ""
    token_file: str = ""
    nkey_seed_file: str = ""
    credentials_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    inbox_prefix: str = INBOX_PREFIX

    def __post_init__(self) -> None:
        methods = {
            "CFM_NATS_USER": self.user,
            "CFM_NATS_TOKEN_FILE": self.token_file,
            "CFM_NATS_NKEY_SEED_FILE": self.nkey_seed_file,
            "CFM_NATS_CREDENTIALS_FILE": self.credentials_file,
        }
        if len(chosen := [name for name, value in methods.items() if value]) > 1:
            raise FatalError(f"{' and '.join(chosen)} are set; NATS is told one identity")
        if bool(self.user) != bool(self.password_file):
            raise FatalError("CFM_NATS_USER and CFM_NATS_PASSWORD_FILE go together")
        if self.key_file and not self.certificate_file:
            raise FatalError("CFM_NATS_KEY_FILE is set without CFM_NATS_CERTIFICATE_FILE")

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """What the settings of this process say."""
        return cls(
            url=settings.nats_url,
            user=settings.nats_user,
            password_file=settings.nats_password_file,
            token_file=settings.nats_token_file,
            nkey_seed_file=settings.nats_nkey_seed_file,
            credentials_file=settings.nats_credentials_file,
            ca_file=settings.nats_ca_file,
            certificate_file=settings.nats_certificate_file,
            key_file=settings.nats_key_file,
            inbox_prefix=settings.nats_inbox_prefix or INBOX_PREFIX,
        )

    @property
    def servers(self) -> list[str]:
        return [server.strip() for server in self.url.split(",")]

    @property
    def must_encrypt(self) -> bool:
        return bool(self.ca_file or self.certificate_file) or self.url.startswith("tls://")

    def options(self) -> dict[str, Any]:
        """What ``Client.connect`` is told of this identity."""
        if self.user:
            return {"user": self.user, "password": lambda: _read(self.password_file, str.strip)}
        if self.token_file:
            return {"token": lambda: _read(self.token_file, str.strip)}
        if self.nkey_seed_file:
            return {"signature_cb": lambda nonce: self._key().sign(nonce)}
        if self.credentials_file:
            return {
                "signature_cb": lambda nonce: self._key().sign(nonce),
                "user_jwt_cb": lambda: bytearray(_read(self.credentials_file, credentials)[0].encode()),
            }
        return {}

    def public_key(self) -> str | None:
        """What names a user that is known by its key."""
        return self._key().public if self.nkey_seed_file else None

    def tls(self) -> ssl.SSLContext:
        """Verifies the server, its name included, and shows the client's certificate where there is one.

        Raises:
            nats.errors.Error: a file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.certificate_file:
                context.load_cert_chain(self.certificate_file, self.key_file or None)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(filter(None, (self.ca_file, self.certificate_file, self.key_file)))
            raise nats.errors.Error(f"no TLS with {files}: {error.strerror or error}") from error
        return context

    def _key(self) -> UserKey:
        if self.nkey_seed_file:
            return _read(self.nkey_seed_file, user_key)
        return _read(self.credentials_file, credentials)[1]


class AccessClient(Client):
    """A client that says nothing about itself before the server has proved who it is, where it has to."""

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access

    @property
    def ssl_context(self) -> ssl.SSLContext:
        return self._access.tls()

    def _connect_command(self) -> bytes:
        # The client encrypts where the server asks for it; whoever stands between could ask for nothing.
        if self._access.must_encrypt and not self._server_info.get("tls_required"):
            raise nats.errors.Error("the server does not encrypt, and has to")
        self._public_nkey = self._access.public_key()
        return super()._connect_command()


def _read(path: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise nats.errors.Error(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise nats.errors.Error(f"{path} cannot be used: {error}") from None
