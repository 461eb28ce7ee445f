"""What a process is told by its environment, read once and passed on as a value."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path

from cfm_core.errors import FatalError
from cfm_core.masking import masked_text
from cfm_core.secret_file import LastingSecret

_PREFIX, _FILE = "CFM_", "_FILE"
_MASK = "***"
_CREDENTIALS = re.compile(r"(?<=://)(?P<user>[^:/?#@]*:)?\S*(?=@)")
"""Up to the last ``@``: a password may have one."""


def _secret() -> str:
    """A field that is never shown. It may be in a file: ``CFM_NAME_FILE`` names that in place of ``CFM_NAME``."""
    value: str = field(default="", repr=False, metadata={"secret": True})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of one process. Every field is an environment variable of the name ``CFM_`` + upper case.

    Secrets may be in files, which are named by the same with ``_FILE`` behind it. Whoever needs one for longer asks
    ``reader`` for it, and gets what the file holds by then.

    An agent's process has neither ``database_url`` nor ``nats_url``.
    """

    database_url: str = _secret()
    """``postgresql://user:password@host:port/database``; empty where a function needs no database."""
    tenant_manager_database_url: str = _secret()
    provision_manager_database_url: str = _secret()
    maintenance_database_url: str = _secret()
    """For a process whose functions have several roles in the database: each one's URL. Empty: it is ``database_url``."""
    database_pool_size: int = 4
    """Connections of a process to each URL; not more than the server's threads."""
    store: str = "postgres"
    """``postgres``, or ``memory`` for a process that forgets everything at its end."""
    nats_url: str = _secret()
    """``nats://host:port``, ``nats://user:password@host:port``, ``nats://token@host:port``, or the same with ``tls``; several
    servers of a cluster are separated by commas. The trigger alone needs it."""
    nats_user: str = ""
    nats_password_file: str = ""
    nats_token_file: str = ""
    nats_nkey_seed_file: str = ""
    nats_credentials_file: str = ""
    """Who the trigger is at NATS, where the URL does not say it: a user and a password, a token, a user's seed, or a JWT with
    its seed. Files are read at each connection."""
    nats_ca_file: str = ""
    """PEM; whose certificates a NATS server may have. Empty: those that the system trusts."""
    nats_certificate_file: str = ""
    nats_key_file: str = ""
    """PEM; the trigger's own certificate and its key, for a server that asks for one. With any of the three files, or a URL
    with ``tls``, nothing is said to a server that does not encrypt."""
    nats_inbox_prefix: str = "_INBOX"
    """Where answers of NATS arrive; one that no other identity may listen to keeps what one trigger is sent from others."""
    trigger_address: str = ""
    """``host:port`` of the trigger's wake-up socket (UDP); empty: the trigger finds new outbox rows by its slow poll."""
    tenant_manager_wake_key: str = _secret()
    provision_manager_wake_key: str = _secret()
    """The secrets by which the trigger believes a row that a manager's function brings it with the wake-up. Each manager's
    functions have their own, the trigger has those of the managers whose outbox it relays. Empty: it looks into the outbox."""
    trigger_health: str = ""
    """``host:port`` where the trigger answers ``/livez`` and ``/readyz``; empty: nowhere."""
    handover: str = "direct"
    """``direct``: the trigger hands events to the functions that it knows itself and uses JetStream for the rest;
    ``jetstream``: everything goes through JetStream."""
    nats_stream: str = "cfm-stream"
    """The stream of manifests and responses."""
    edc_stream: str = "edc-events"
    """The stream in which the dataspace services publish their events."""
    event_tokens_file: str = ""
    """A JSON file with the tokens that open each event function of this process (``contracts/event_tokens.py``); read again
    when it changes. A trigger that has it instead of a key calls just these functions."""
    event_token: str = _secret()
    """What opens the event function of a process that serves one, if it is to be told so simply: a file can be changed."""
    event_key_file: str = ""
    """A file with the key that all of those tokens follow from, for the trigger alone; read again when it changes."""
    auth: str = "jwt"
    """``jwt``, or ``off`` for a laptop: every check passes, which is refused to a process that other machines can reach."""
    auth_issuer: str = ""
    """Whose tokens are accepted: what their claim ``iss`` is."""
    auth_audience: str = ""
    """Whom a token has to be for."""
    auth_audience_claim: str = "aud"
    """The claim that says so: ``aud`` has to contain the audience, another one (``azp``) has to be equal to it."""
    auth_jwks_url: str = ""
    """Where the issuer's key set is, ``https:`` or a mounted ``file:``; empty: where its OpenID configuration says
    (``<issuer>/.well-known/openid-configuration``)."""
    auth_issuers: str = ""
    """More issuers, as a JSON array of ``{"issuer", "audience", "audienceClaim", "jwksUrl"}``; the last two may be left out."""
    auth_user_claim: str = ""
    """The claim that names a user. Whoever has it has to be a user; a client without it has what its scopes allow. Empty: the
    subject is looked for among the users, and a client that is none has what its scopes allow."""
    auth_roles_claim: str = ""
    """The claim with names of roles, for clients that are no users: an array of texts, or one text with spaces; empty: none.
    ``realm_access.roles`` leads into an object. A client that has the claim has the rights of these roles only."""
    trusted_proxies: int = 0
    """How many proxies stand in front of the API, each of which adds to ``X-Forwarded-For`` where it was asked from. What comes
    before their entries anybody may have written."""
    rate_limit: float = 5000
    rate_limit_burst: float = 50_000
    """How many requests a second each process answers a subject in the long run, and how many at once; 0 a second: any number."""
    stranger_rate_limit: float = 200
    stranger_rate_limit_burst: float = 10_000
    """The same for requests that are refused for want of a good token, by the address they come from."""
    cors_origins: str = ""
    """The origins whose pages may ask from a browser, with commas between them, ``https://console.example``; empty: none."""
    outbound_networks: str = ""
    """Networks that addresses in data may lead to, though they are not public, with commas between them: ``10.96.0.0/12``.
    Addresses that are configured may lead anywhere."""
    secrets: str = "file"
    """``file``, ``mounted`` (files that somebody else keeps), or ``vault`` (HashiCorp Vault or OpenBao)."""
    secrets_file: str = ""
    """The file of ``file``: made at the first write, for its owner to read only."""
    secrets_directory: str = ""
    """The folder of ``mounted``: a file for each secret."""
    vault_addr: str = ""
    """The vault's address, without ``/v1``."""
    vault_namespace: str = ""
    vault_mount: str = "secret"
    """The engine, of version 2, of this process's own secrets."""
    vault_auth: str = "token"
    """How this process logs in to the vault: ``token``, ``kubernetes``, ``jwt`` or ``approle``."""
    vault_auth_mount: str = ""
    """Where that method is mounted; empty: at its name."""
    vault_role: str = ""
    """The role to log in as; with ``approle`` its id."""
    vault_token_file: str = ""
    """With ``token``: holds the token; read again when it is refused."""
    vault_jwt_file: str = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    """With ``kubernetes`` and ``jwt``: holds the service account's token; read again for each login."""
    vault_secret_id_file: str = ""
    """With ``approle``: holds the secret id; read again for each login."""
    request_timeout: timedelta = field(default=timedelta(seconds=10))
    """How long an outgoing HTTP call may take, in seconds in the environment. Shorter than an activity's timeout, so that
    the activity can say who did not answer."""
    supervised: bool = False
    """Whether somebody starts this process again when it ends: then one that is beyond help may end itself."""
    completion_url: str = ""
    """The API's address with its version, ``https://host/api/v1alpha1``: the trigger gives agents the addresses there at which
    others end a waiting activity, and at which they themselves say how far they are."""
    completion_key: str = _secret()
    """A secret of the trigger and the API, from which the tokens are derived that end activities from outside. With another
    key those that have been given away are worth nothing any more."""
    history_days: int = 90
    """How long the history of orchestrations is kept, in days."""
    archive_after_days: int = 7
    """How long after its end an orchestration is archived, in days; at least one."""
    archive_days: int = 0
    """How long after its end an archived orchestration is forgotten, in days; 0: never."""
    dead_letter_days: int = 90
    """How long dead letters are kept, in days."""
    log_level: str = "info"
    secret_files: Mapping[str, LastingSecret] = field(default_factory=dict, compare=False)
    """The files of those secrets that are in files, by the names of their fields; no variable of its own."""

    def reader(self, name: str) -> Callable[[], str]:
        """Gives what the secret ``name`` is whenever it is asked: a file may have changed since."""
        value: str = getattr(self, name)
        return self.secret_files.get(name, lambda: value)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read ``environ`` (the process's own by default).

        Raises:
            FatalError: a variable has a value that its field cannot hold, a secret's file cannot be read, or there is a
                variable for the file and one for the secret itself.
        """
        source = os.environ if environ is None else environ
        files = dict(_secret_files(source))
        values: dict[str, object] = {"secret_files": files} | {name: file() for name, file in files.items()}
        for name in _names():
            raw = source.get(variable_of(name))
            if raw is None:
                continue
            try:
                match name:
                    case "database_pool_size":
                        values[name] = int(raw)
                    case "trusted_proxies":
                        values[name] = _least(name, raw, 0)
                    case "rate_limit" | "rate_limit_burst" | "stranger_rate_limit" | "stranger_rate_limit_burst":
                        values[name] = float(raw)
                    case "history_days" | "archive_after_days" | "archive_days" | "dead_letter_days":
                        values[name] = _least(name, raw, 0 if name == "archive_days" else 1)
                    case "supervised":
                        values[name] = raw not in {"", "0", "false"}
                    case "request_timeout":
                        values[name] = timedelta(seconds=float(raw))
                    case _:
                        values[name] = raw
            except ValueError:
                raise FatalError(f"CFM_{name.upper()} is {raw!r}, which is not a number") from None
        return cls(**values)  # type: ignore[arg-type]  # each value was converted for its field just above


def _least(name: str, raw: str, least: int) -> int:
    number = int(raw)
    if number < least:
        raise FatalError(f"CFM_{name.upper()} is {raw!r}; it must be at least {least}")
    return number


@dataclass(frozen=True, slots=True)
class Told:
    """A setting as it may be shown: where it comes from, and its value unless that is secret."""

    variable: str
    origin: str
    """``default``, ``environment``, or the path of a file."""
    shown: str


def told(environ: Mapping[str, str] | None = None) -> list[Told]:
    """All settings, as ``environ`` has them.

    Raises:
        FatalError: as ``Settings.from_environ`` does.
    """
    source = os.environ if environ is None else environ
    settings = Settings.from_environ(source)
    found = []
    for name in _names():
        variable, value = variable_of(name), getattr(settings, name)
        origin = "environment" if variable in source else "default"
        if name in settings.secret_files:
            origin = source[variable + _FILE]
        text = f"{value.total_seconds():g}" if isinstance(value, timedelta) else str(value)
        found.append(Told(variable, origin, _shown(text, is_secret=name in _SECRETS)))
    return found


def variable_of(name: str) -> str:
    """The environment variable of a field."""
    return _PREFIX + name.upper()


_SECRETS = frozenset(one.name for one in fields(Settings) if one.metadata.get("secret"))


def _names() -> list[str]:
    return [one.name for one in fields(Settings) if one.name != "secret_files"]


def _secret_files(source: Mapping[str, str]) -> Iterator[tuple[str, LastingSecret]]:
    for name in _SECRETS:
        variable = variable_of(name)
        if path := source.get(variable + _FILE):
            if source.get(variable):
                raise FatalError(f"{variable} and {variable}{_FILE} are both set: only one of them can hold")
            yield name, LastingSecret(Path(path))


def _shown(value: str, *, is_secret: bool) -> str:
    """Of addresses all but password or token; of other secrets nothing."""
    if is_secret and value and "://" not in value:
        return _MASK
    return masked_text(_CREDENTIALS.sub(lambda found: (found["user"] or "") + _MASK, value))
