"""The stand-in vault's ways to log in: JWT, Kubernetes, AppRole.

Source: dataspace service contracts, sections 10.2 and 10.4.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local.standins.tokens import TokenSigner
from local.standins.vault_tokens import seconds


class LoginError(Exception):
    """A role or a login that the vault does not take; with the status of its answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Identity:
    """Who has logged in: the name that the method knows it by, what it may do, and for how long."""

    alias: str
    policies: tuple[str, ...]
    lifetime: int
    longest: int


class Method(ABC):
    """A way to log in, mounted somewhere, with its roles."""

    def __init__(self) -> None:
        self.accessor = f"auth_{uuid.uuid4().hex[:8]}"
        self.roles: dict[str, dict[str, Any]] = {}

    def configure(self, document: Mapping[str, Any]) -> None:
        """Take a configuration; LoginError where it is none."""
        raise LoginError("unsupported path", 404)

    def put_role(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a role, whether there is one or not; LoginError where it is none."""
        self._check_role(document)
        try:
            for key in ("token_ttl", "token_max_ttl", "ttl", "max_ttl"):
                seconds(document.get(key, 0))
        except ValueError as error:
            raise LoginError(f"error converting input for field: {error}") from None
        self.roles[name] = self._made_of(name, document)

    @abstractmethod
    def login(self, document: Mapping[str, Any]) -> Identity:
        """Who this is; LoginError where nobody is let in."""

    @abstractmethod
    def _check_role(self, document: Mapping[str, Any]) -> None:
        """LoginError where it is no role of this method."""

    def _made_of(self, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        return dict(document)

    @staticmethod
    def _identity(alias: str, role: Mapping[str, Any]) -> Identity:
        return Identity(
            alias,
            tuple(_listed(role.get("token_policies") or role.get("policies"))),
            seconds(role.get("token_ttl", role.get("ttl", 0))),
            seconds(role.get("token_max_ttl", role.get("max_ttl", 0))),
        )


class JwtMethod(Method):
    """Takes tokens of an issuer whose keys are at an address.

    Args:
        issuers: who signs, by the end of the address of the keys.
    """

    def __init__(self, issuers: Mapping[str, TokenSigner]) -> None:
        super().__init__()
        self._issuers = issuers
        self._signer: TokenSigner | None = None
        self._default_role = ""

    def configure(self, document: Mapping[str, Any]) -> None:
        address = str(document.get("jwks_url", ""))
        found = [signer for end, signer in self._issuers.items() if address.endswith(end)]
        if not found:
            raise LoginError("error checking jwks URL")
        self._signer = found[0]
        self._default_role = str(document.get("default_role", ""))

    def _check_role(self, document: Mapping[str, Any]) -> None:
        if document.get("role_type", "oidc") != "jwt":
            raise LoginError("'allowed_redirect_uris' must be set if 'role_type' is 'oidc' or unspecified.")
        if not document.get("user_claim"):
            raise LoginError("a user claim must be defined on the role")
        if not any(document.get(bound) for bound in ("bound_audiences", "bound_subject", "bound_claims")):
            raise LoginError("must have at least one bound constraint when creating/updating a role")

    def login(self, document: Mapping[str, Any]) -> Identity:
        name = document.get("role") or self._default_role
        if not name:
            raise LoginError("missing role")
        role = self.roles.get(name)
        if role is None:
            raise LoginError(f'role "{name}" could not be found')
        token = document.get("jwt")
        if not token:
            raise LoginError("missing token")
        if self._signer is None:
            raise LoginError("could not load configuration")
        claims = self._signer.verified(str(token))
        if claims is None:
            raise LoginError("error validating token: error verifying token signature")
        self._check(claims, role)
        alias = claims.get(role["user_claim"])
        if not isinstance(alias, str):
            raise LoginError(f'claim "{role["user_claim"]}" not found in token')
        return self._identity(alias, role)

    @staticmethod
    def _check(claims: Mapping[str, Any], role: Mapping[str, Any]) -> None:
        said = claims.get("aud")
        audiences = {said} if isinstance(said, str) else set(said or ())
        if bound := role.get("bound_audiences"):
            if not audiences & set(bound):
                raise LoginError("error validating token: invalid audience (aud) claim")
        elif audiences:
            raise LoginError("audience claim found in JWT but no audiences bound to the role")
        if (subject := role.get("bound_subject")) and claims.get("sub") != subject:
            raise LoginError("error validating token: invalid subject (sub) claim")
        for name, wanted in (role.get("bound_claims") or {}).items():
            if claims.get(name) not in (wanted if isinstance(wanted, list) else [wanted]):
                raise LoginError(f'error validating claims: claim "{name}" does not match any associated bound claim')


class KubernetesMethod(Method):
    """Takes the cluster's tokens of service accounts.

    Args:
        account_of: whose token this is, ``system:serviceaccount:namespace:name``; None for no token of the cluster.
    """

    def __init__(self, account_of: Callable[[str], str | None]) -> None:
        super().__init__()
        self._account_of = account_of

    def configure(self, document: Mapping[str, Any]) -> None:
        if not document.get("kubernetes_host"):
            raise LoginError("no host provided")

    def _check_role(self, document: Mapping[str, Any]) -> None:
        for bound in ("bound_service_account_names", "bound_service_account_namespaces"):
            if not document.get(bound):
                raise LoginError(f'"{bound}" can not be empty')

    def login(self, document: Mapping[str, Any]) -> Identity:
        name, token = document.get("role"), document.get("jwt")
        if not name:
            raise LoginError("missing role")
        if not token:
            raise LoginError("missing jwt")
        role = self.roles.get(str(name))
        if role is None:
            raise LoginError(f'invalid role name "{name}"')
        account = self._account_of(str(token))
        if account is None:
            raise LoginError("permission denied", 403)
        _, _, namespace, account_name = account.split(":")
        if namespace not in role["bound_service_account_namespaces"]:
            raise LoginError("namespace not authorized", 403)
        if account_name not in role["bound_service_account_names"]:
            raise LoginError("service account name not authorized", 403)
        return self._identity(account, role)


class AppRoleMethod(Method):
    """Takes the id of a role with one of the secret ids that were made for it."""

    def __init__(self) -> None:
        super().__init__()
        self.secret_ids: dict[str, str] = {}

    def _check_role(self, document: Mapping[str, Any]) -> None:
        pass

    def _made_of(self, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        known = self.roles.get(name, {})
        return {**document, "role_id": known.get("role_id") or str(uuid.uuid4())}

    def new_secret_id(self, name: str) -> str:
        secret_id = str(uuid.uuid4())
        self.secret_ids[secret_id] = name
        return secret_id

    def login(self, document: Mapping[str, Any]) -> Identity:
        if not document.get("role_id"):
            raise LoginError("missing role_id")
        name = self.secret_ids.get(str(document.get("secret_id")), "")
        role = self.roles.get(name)
        if role is None or role["role_id"] != document["role_id"]:
            raise LoginError("invalid role or secret ID")
        return self._identity(role["role_id"], role)


def _listed(names: Any) -> list[str]:
    """A list as the vault takes it: of JSON, or a text with commas."""
    return names.split(",") if isinstance(names, str) else list(names or ())
