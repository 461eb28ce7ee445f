"""The stand-in vault: KV engines of version 2, policies, tokens that expire, and three ways to log in.

Source: dataspace service contracts, section 10.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from local.standins.http import Answer, Refused, Request, Service
from local.standins.tokens import TokenSigner
from local.standins.vault_bootstrap import bootstrap
from local.standins.vault_kv import KvEngine, KvError
from local.standins.vault_logins import AppRoleMethod, JwtMethod, KubernetesMethod, LoginError, Method
from local.standins.vault_policies import PolicyError, Rule, allows, parsed
from local.standins.vault_tokens import Token, Tokens, seconds

_DEFAULT_POLICY = """
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
"""


class Vault(Service):
    """Secrets, who may see them, and who is who.

    Args:
        root: the token that may do everything.
        issuers: whose tokens can be logged in with, by the end of the address of their keys; the first is jwtlet.
        account_of: whose token of the cluster this is.
        clock: monotonic seconds.
    """

    name = "vault"
    prefix = "/vault"

    def __init__(
        self,
        root: str,
        issuers: Mapping[str, TokenSigner],
        account_of: Callable[[str], str | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.tokens = Tokens(root, clock)
        self._issuers = issuers
        self._account_of = account_of
        self._engines: dict[str, KvEngine] = {}
        self._methods: dict[str, Method] = {}
        self._policies = {"default": _DEFAULT_POLICY}
        self._rules: dict[str, tuple[Rule, ...]] = {"default": parsed(_DEFAULT_POLICY)}
        self._route_all()
        bootstrap(self._sender(root), f"http://jwtlet{next(iter(issuers))}")

    def _route_all(self) -> None:
        self.route("GET", "/v1/sys/health", lambda request: Answer(200, {"initialized": True, "sealed": False}))
        self.route("GET", "/v1/sys/auth", self._list_methods)
        self.route("GET", "/v1/sys/policies/acl/{name}", self._read_policy)
        self.route("DELETE", "/v1/sys/policies/acl/{name}", self._delete_policy)
        self.route("GET", "/v1/auth/token/lookup-self", self._look_up)
        self.route("GET", "/v1/auth/{mount}/role/{name}/role-id", self._role_id)
        self.route("GET", "/v1/auth/{mount}/role/{name}", self._read_role)
        self.route("DELETE", "/v1/auth/{mount}/role/{name}", self._delete_role)
        for method in ("POST", "PUT"):
            self.route(method, "/v1/sys/auth/{mount}", self._enable_method)
            self.route(method, "/v1/sys/mounts/{mount}", self._enable_engine)
            self.route(method, "/v1/sys/policies/acl/{name}", self._write_policy)
            self.route(method, "/v1/auth/token/renew-self", self._renew)
            self.route(method, "/v1/auth/token/revoke", self._revoke)
            self.route(method, "/v1/auth/{mount}/config", self._configure)
            self.route(method, "/v1/auth/{mount}/login", self._login)
            self.route(method, "/v1/auth/{mount}/role/{name}/secret-id", self._new_secret_id)
            self.route(method, "/v1/auth/{mount}/role/{name}", self._write_role)
            self.route(method, "/v1/{mount}/data/{path...}", self._write)
        self.route("GET", "/v1/{mount}/data/{path...}", self._read)
        self.route("DELETE", "/v1/{mount}/data/{path...}", self._delete)
        self.route("GET", "/v1/{mount}/metadata/{path...}", self._metadata)
        self.route("LIST", "/v1/{mount}/metadata/{path...}", self._list)
        self.route("DELETE", "/v1/{mount}/metadata/{path...}", self._destroy)

    def state(self) -> Any:
        return {
            "secrets": [
                {"mount": mount, "path": path, "versions": versions}
                for mount, engine in self._engines.items()
                for path, versions in engine.counts()
            ],
            "policies": sorted(self._policies),
            "roles": {mount: sorted(method.roles) for mount, method in self._methods.items()},
        }

    def secrets(self) -> Iterator[str]:
        yield from self.tokens
        for engine in self._engines.values():
            yield from engine.values()
        for method in self._methods.values():
            if isinstance(method, AppRoleMethod):
                yield from method.secret_ids

    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        if answer.status in {404, 405} and isinstance(answer.body, str | None):
            return _errors(answer.status, *(["unsupported operation"] if answer.status == 405 else []))
        return answer

    def _sender(self, root: str) -> Callable[[str, str, dict[str, Any] | None], Any]:
        def send(method: str, path: str, body: dict[str, Any] | None) -> Any:
            encoded = b"" if body is None else json.dumps(body).encode()
            answer = self.answer(Request(method, f"/v1/{path}", {}, {"x-vault-token": root}, encoded))
            if answer.status not in {200, 204}:
                raise ValueError(f"{method} {path}: {answer}")
            return answer.body

        return send

    # Who may do what

    def _admit(self, request: Request, path: str, *capabilities: str) -> Token:
        """The token of a request that may do one of these on ``path``."""
        token = self.tokens.find(request.headers.get("x-vault-token") or request.bearer)
        if token is None:
            raise Refused(_errors(403, "permission denied"))
        if "root" not in token.policies:
            rules = [rule for name in token.policies for rule in self._rules.get(name, ())]
            if not any(allows(rules, token.aliases, path, one) for one in capabilities):
                raise Refused(_errors(403, "1 error occurred:\n\t* permission denied\n\n"))
        return token

    def _renew(self, request: Request) -> Answer:
        token = self._admit(request, "auth/token/renew-self", "update")
        if token.expires_at is None:
            return _errors(400, "lease is not renewable")
        try:
            increment = seconds(_document(request).get("increment", 0))
        except ValueError as error:
            return _errors(400, str(error))
        return Answer(200, {"auth": _shown(token, self.tokens.renew(token, increment))})

    def _look_up(self, request: Request) -> Answer:
        token = self._admit(request, "auth/token/lookup-self", "read")
        return Answer(200, {"data": {"id": token.text, "policies": list(token.policies), "ttl": token.lifetime}})

    def _revoke(self, request: Request) -> Answer:
        self._admit(request, "auth/token/revoke", "update")
        if not self.tokens.revoke(str(_document(request).get("token"))):
            return _errors(403, "1 error occurred:\n\t* bad token\n\n")
        return Answer(204)

    def _read_policy(self, request: Request, name: str) -> Answer:
        self._admit(request, f"sys/policies/acl/{name}", "read")
        if name not in self._policies:
            return _errors(404)
        return Answer(200, {"data": {"name": name, "policy": self._policies[name]}})

    def _write_policy(self, request: Request, name: str) -> Answer:
        self._admit(request, f"sys/policies/acl/{name}", "update")
        text = _document(request).get("policy")
        if not isinstance(text, str) or not text:
            return _errors(400, "'policy' parameter not supplied or empty")
        if name == "root":
            return _errors(400, 'cannot update "root" policy')
        try:
            self._rules[name] = parsed(text)
        except PolicyError as error:
            return _errors(400, str(error))
        self._policies[name] = text
        return Answer(204)

    def _delete_policy(self, request: Request, name: str) -> Answer:
        self._admit(request, f"sys/policies/acl/{name}", "delete")
        if name in {"root", "default"}:
            return _errors(400, f'cannot delete "{name}" policy')
        self._policies.pop(name, None)
        self._rules.pop(name, None)
        return Answer(204)

    # Who is who

    def _list_methods(self, request: Request) -> Answer:
        self._admit(request, "sys/auth", "read")
        return Answer(200, {"data": {f"{name}/": {"accessor": one.accessor} for name, one in self._methods.items()}})

    def _enable_method(self, request: Request, mount: str) -> Answer:
        self._admit(request, f"sys/auth/{mount}", "update")
        if mount in self._methods:
            return _errors(400, f"path is already in use at {mount}/")
        match _document(request).get("type"):
            case "jwt":
                self._methods[mount] = JwtMethod(self._issuers)
            case "kubernetes":
                self._methods[mount] = KubernetesMethod(self._account_of)
            case "approle":
                self._methods[mount] = AppRoleMethod()
            case other:
                return _errors(400, f'plugin not found in the catalog: "{other}"')
        return Answer(204)

    def _method(self, path: str, mount: str) -> Method:
        if mount not in self._methods:
            raise Refused(_errors(404, f'no handler for route "{path}". route entry not found.'))
        return self._methods[mount]

    def _configure(self, request: Request, mount: str) -> Answer:
        path = f"auth/{mount}/config"
        self._admit(request, path, "update")
        try:
            self._method(path, mount).configure(_document(request))
        except LoginError as error:
            return _errors(error.status, str(error))
        return Answer(204)

    def _write_role(self, request: Request, mount: str, name: str) -> Answer:
        path = f"auth/{mount}/role/{name}"
        known = mount in self._methods and name in self._methods[mount].roles
        self._admit(request, path, "update" if known else "create")
        try:
            self._method(path, mount).put_role(name, _document(request))
        except LoginError as error:
            return _errors(error.status, str(error))
        return Answer(204)

    def _read_role(self, request: Request, mount: str, name: str) -> Answer:
        path = f"auth/{mount}/role/{name}"
        self._admit(request, path, "read")
        role = self._method(path, mount).roles.get(name)
        return _errors(404) if role is None else Answer(200, {"data": role})

    def _delete_role(self, request: Request, mount: str, name: str) -> Answer:
        path = f"auth/{mount}/role/{name}"
        self._admit(request, path, "delete")
        self._method(path, mount).roles.pop(name, None)
        return Answer(204)

    def _role_id(self, request: Request, mount: str, name: str) -> Answer:
        path = f"auth/{mount}/role/{name}/role-id"
        self._admit(request, path, "read")
        role = self._method(path, mount).roles.get(name)
        if role is None or "role_id" not in role:
            return _errors(404)
        return Answer(200, {"data": {"role_id": role["role_id"]}})

    def _new_secret_id(self, request: Request, mount: str, name: str) -> Answer:
        path = f"auth/{mount}/role/{name}/secret-id"
        self._admit(request, path, "update")
        method = self._method(path, mount)
        if not isinstance(method, AppRoleMethod) or name not in method.roles:
            return _errors(404)
        return Answer(200, {"data": {"secret_id": method.new_secret_id(name)}})

    def _login(self, request: Request, mount: str) -> Answer:
        method = self._method(f"auth/{mount}/login", mount)
        try:
            who = method.login(_document(request))
        except LoginError as error:
            return _errors(error.status, str(error))
        token = self.tokens.issue(who.policies, {method.accessor: who.alias}, who.lifetime, who.longest)
        return Answer(200, {"auth": _shown(token, token.lifetime)})

    # Secrets

    def _enable_engine(self, request: Request, mount: str) -> Answer:
        self._admit(request, f"sys/mounts/{mount}", "update")
        document = _document(request)
        if mount in self._engines:
            return _errors(400, f"path is already in use at {mount}/")
        if document.get("type") != "kv" or (document.get("options") or {}).get("version") != "2":
            return _errors(400, "the stand-in has engines of type kv and version 2 only")
        self._engines[mount] = KvEngine()
        return Answer(204)

    def _engine(self, request: Request, mount: str, kind: str, path: str, *capabilities: str) -> KvEngine:
        self._admit(request, f"{mount}/{kind}/{path}", *capabilities)
        if mount not in self._engines:
            raise Refused(_errors(404, f'no handler for route "{mount}/{kind}/{path}". route entry not found.'))
        if any(segment.endswith(".") for segment in path.split("/")):
            raise Refused(_errors(404))
        return self._engines[mount]

    def _write(self, request: Request, mount: str, path: str) -> Answer:
        known = mount in self._engines and path in self._engines[mount]
        engine = self._engine(request, mount, "data", path, "update" if known else "create")
        try:
            return Answer(200, {"data": engine.write(path, _document(request))})
        except KvError as error:
            return _errors(400, str(error))

    def _read(self, request: Request, mount: str, path: str) -> Answer:
        engine = self._engine(request, mount, "data", path, "read")
        try:
            number = int(request.query.get("version", 0))
        except ValueError:
            return _errors(400, 'Field validation failed: error converting input for field "version"')
        found = engine.read(path, number)
        if found is None:
            return _errors(404)
        return Answer(404 if found["data"] is None else 200, {"data": found})

    def _delete(self, request: Request, mount: str, path: str) -> Answer:
        self._engine(request, mount, "data", path, "delete").delete(path)
        return Answer(204)

    def _destroy(self, request: Request, mount: str, path: str) -> Answer:
        self._engine(request, mount, "metadata", path, "delete").destroy(path)
        return Answer(204)

    def _metadata(self, request: Request, mount: str, path: str) -> Answer:
        if request.query.get("list") == "true":
            return self._list(request, mount, path)
        found = self._engine(request, mount, "metadata", path, "read").metadata(path)
        return _errors(404) if found is None else Answer(200, {"data": found})

    def _list(self, request: Request, mount: str, path: str) -> Answer:
        # A folder's rule may be written with its slash.
        keys = self._engine(request, mount, "metadata", path.rstrip("/") + "/", "list").list(path)
        return Answer(200, {"data": {"keys": keys}}) if keys else _errors(404)


def _document(request: Request) -> dict[str, Any]:
    if not request.body:
        return {}
    try:
        document = json.loads(request.body)
    except ValueError:
        raise Refused(_errors(400, "failed to decode JSON input")) from None
    if not isinstance(document, dict):
        raise Refused(_errors(400, "failed to decode JSON input"))
    return document


def _errors(status: int, *messages: str) -> Answer:
    return Answer(status, {"errors": list(messages)})


def _shown(token: Token, lifetime: int) -> dict[str, Any]:
    return {
        "client_token": token.text,
        "policies": list(token.policies),
        "lease_duration": lifetime,
        "renewable": True,
        "token_type": "service",
    }
