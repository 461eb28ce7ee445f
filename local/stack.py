"""The whole system on one machine: which processes it has, what each is told, in which order they come and go.

    with Stack(Path("/tmp/somewhere")) as stack:
        requests_to(stack.url, token=stack.token())

The process that calls ``start`` is the supervisor: it keeps the others running, and none of them outlives it.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from cfm_core.assembly.listeners import is_loopback
from cfm_core.assembly.secrets import FileSecretStore
from cfm_core.contracts import event_tokens
from cfm_core.eventing.permissions import Identity, identities, joined
from cfm_core.store.roles import Role, set_up, url_of
from local import health, state
from local.issuer import SCOPES, Issuer
from local.keeper import Child, Keeper, Server, base_environ
from local.servers.nats import EmbeddedNats
from local.servers.postgres import EmbeddedPostgres
from local.servers.process import StartError, free_port
from local.standins import agent_environment
from local.standins.keycloak import admin_password
from local.state import ProcessState, StackState

_LOOPBACK = "127.0.0.1"
_FUNCTIONS = "/-/functions"
_OLDEST_NATS = (2, 10)
_START_SECONDS = 30
GATEWAYS = ("gateway", "gateway-2")
"""Two processes on one port, between which the kernel shares out connections: one alone is held back by its lock."""
_MANAGERS = (Role.TENANT_MANAGER, Role.PROVISION_MANAGER)
_ISOLATED_SECONDS = 180
"""Starting some forty processes takes a while on a small machine."""


class PortError(StartError):
    """The port is taken; the text says how to name another."""


class OpenError(StartError):
    """Other machines would reach an API that asks for no tokens."""


def quietly(_: str) -> None:
    """Takes a line of progress and drops it."""


class Stack:
    """One stack and its directory; a context manager that starts and stops it.

    Args:
        data: the directory; made when absent, keeps everything between runs.
        port: where both managers answer; 0 picks a free one.
        auth: whether the API asks for tokens; only on loopback it need not.
        agents: files that declare activity types of one's own; each is served by a process of its own.
        database_url: a PostgreSQL of one's own, 15 or newer; empty: an embedded one.
        nats_url: a NATS server of one's own, 2.10 or newer with JetStream; empty: an embedded one.
        isolated: give every function a process of its own.
        handovers: one trigger for each, which hands events over like that, with a process of event functions of its own.
        told: changes what triggers are told of a target, for whoever puts something in between.
        say: takes lines about what happens.
    """

    def __init__(
        self,
        data: Path,
        *,
        host: str = _LOOPBACK,
        port: int = 0,
        auth: bool = True,
        agents: Sequence[Path] = (),
        database_url: str = "",
        nats_url: str = "",
        isolated: bool = False,
        handovers: Sequence[str] = ("direct",),
        told: Callable[[dict[str, Any]], dict[str, Any]] = dict,
        say: Callable[[str], None] = quietly,
    ) -> None:
        self.data = data.expanduser().resolve()
        self.auth = auth
        self._host = _address_of(host)
        self._port = port
        self._agents = [agent.resolve() for agent in agents]
        self._given_database_url = database_url
        self._given_nats_url = nats_url
        self._database_url = database_url
        self._nats_url = nats_url
        self._isolated = isolated
        self._handovers = {f"-{number}" if number > 1 else "": how for number, how in enumerate(handovers, 1)}
        self._told = told
        self._tell = say
        self._detached = False
        self._issuer = Issuer(self.data / "issuer")
        self._nats: EmbeddedNats | None = None
        self._secrets: dict[str, str] = {}
        self._event_key = ""
        self._passwords: dict[Role, str] = {}
        self._ports: dict[str, int] = {}
        self._keepers: dict[str, Keeper] = {}
        self._checks: dict[str, str] = {}
        self._stages: list[list[Keeper]] = []
        self._settled: queue.SimpleQueue[Keeper] = queue.SimpleQueue()
        self._up: set[str] = set()
        self._owned: ExitStack | None = None
        self._writing = threading.Lock()
        self._ready = False

    # What a running stack offers

    @property
    def url(self) -> str:
        """The base of the API, without ``/api/v1alpha1``."""
        host = {"0.0.0.0": _LOOPBACK, "::": "::1", "": _LOOPBACK}.get(self._host, self._host)  # noqa: S104 - names, to say where others reach it
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def database_url(self) -> str:
        """How to connect to PostgreSQL as the user who may do everything, password included."""
        return self._database_url

    @property
    def nats_url(self) -> str:
        """How to connect to NATS, password included."""
        return self._nats_url

    @property
    def standins_url(self) -> str:
        """Where the stand-ins for the dataspace services are."""
        return f"http://{_LOOPBACK}:{self._ports['standins']}"

    @property
    def standins_token(self) -> str:
        """What the stand-ins' control surface asks for."""
        return self._secrets["standins"]

    def token(self, scopes: Iterable[str] = SCOPES, subject: str = "cfm") -> str:
        """An access token of the stack's issuer."""
        return self._issuer.token(scopes, subject)

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """The process of that name as it runs now; after a restart it is another one.

        Raises:
            KeyError: the stack has none of that name.
        """
        process = self._keepers[name].process
        if process is None:
            raise KeyError(name)
        return process

    @property
    def processes(self) -> list[ProcessState]:
        """Every process of the stack, in the order in which they were started."""
        return [
            ProcessState(
                name=name,
                pid=keeper.process.pid if keeper.process else None,
                check=self._checks[name],
                restarts=keeper.restarts,
            )
            for name, keeper in list(self._keepers.items())
        ]

    # Coming and going

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, *, detached: bool = False) -> None:
        """Start everything and return when it is ready.

        Args:
            detached: leave it to a supervisor of its own, which goes on when this process ends.

        Raises:
            StartError: something did not come up; what had come up is stopped again.
        """
        if detached:
            self._start_detached()
            return
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything in reverse order and wait for its end."""
        if self._detached:
            self._detached = False
            state.stop(self.data)
            return
        while self._stages:
            threads = [threading.Thread(target=keeper.stop) for keeper in self._stages.pop()]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self._keepers.clear()
        self._up.clear()
        self._ready = False
        if self._owned is not None:
            state.state_file(self.data).unlink(missing_ok=True)
            self._owned.close()
            self._owned = None

    def report(self, text: str) -> None:
        """Note in the supervisor's log, and tell, what has happened."""
        if state.logs(self.data).is_dir():
            with self._log("supervisor").open("a", encoding="utf-8") as log:
                log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")
        self._tell(text)

    def _start(self) -> None:
        if not self.auth and not is_loopback(self._host):
            raise OpenError(f"--no-auth is for loopback, and others reach {self._host}; leave out one of both")
        owned = ExitStack()
        owned.enter_context(state.lock(self.data))
        self._owned = owned
        state.end_leftovers(self.data)
        _check_address(self._host, self._port)
        self._port = self._port or free_port(self._host)
        names = ("standins", "nats", "tenant-manager-wake", "provision-manager-wake")
        self._secrets = {name: secrets.token_urlsafe(24) for name in names}
        self._event_key = state.kept_secret(self.data, "event-key")
        self._passwords = {role: secrets.token_urlsafe(24) for role in Role}
        # What somebody was given before a restart is good afterwards, too.
        self._secrets["completion"] = state.kept_secret(self.data, "completion-key")
        self._ports = {name: self._unused_port() for name in ("standins", "agents")}
        for suffix in self._handovers:
            self._ports |= {f"{name}{suffix}": self._unused_port() for name in ("events", "trigger-health")}
            self._ports[f"trigger{suffix}"] = free_port(kind=socket.SOCK_DGRAM)
        self._write()
        self._issuer.prepare()

        awaited = self._start_servers()
        if not self._isolated:
            self._begin({"agents": self._served("agents", self._agents_environ("agents"))})
        own_agents = self._own_agents()
        self._begin(own_agents)
        self._await(*awaited)
        set_up(self._database_url, self._passwords)

        if self._isolated:
            targets = {"": self._start_isolated()}
        else:
            events = {suffix: f"events{suffix}" for suffix in self._handovers}
            self._begin(
                {
                    **{name: self._served(name, self._events_environ(suffix, name)) for suffix, name in events.items()},
                    **{name: self._gateway(name, "gateway", self._api_environ(name)) for name in GATEWAYS},
                }
            )
            self._await(*events.values(), "agents", *own_agents)
            targets = {s: [*self._targets(name), *self._targets("agents")] for s, name in events.items()}
        self._await(*own_agents)
        merged = {s: _merged(built_in, map(self._targets, own_agents)) for s, built_in in targets.items()}
        if self._nats is not None:
            identity = self._trigger_identity(merged[""])
            self._nats.admit([identity.user(self._secrets["nats"], identity.publishes())])
        self._begin({f"trigger{suffix}": self._trigger(suffix, merged[suffix]) for suffix in targets})
        self._await(*self._keepers)
        self._ready = True
        self._write()

    def _start_servers(self) -> list[str]:
        """Begin to start what everything else needs; gives the names of what has to be awaited before it is used."""
        mark = {state.MARK: str(self.data)}
        servers: dict[str, tuple[Server, str]] = {}
        if not self._given_database_url:
            postgres = EmbeddedPostgres(self.data / "postgres", self._log("postgres"), self._unused_port(), mark)
            self._database_url = postgres.url()
            servers["postgres"] = (postgres, postgres.url())
        if not self._given_nats_url:
            self._nats = nats = EmbeddedNats(self.data / "nats", self._log("nats"), self._unused_port(), mark)
            self._nats_url = nats.url
            servers["nats"] = (nats, nats.url)
        else:
            _check_nats(self._nats_url)
        arguments = ("--port", str(self._ports["standins"]))
        environ = self._environ() | {"CFM_STANDINS_TOKEN": self._secrets["standins"]}
        check = f"{self.standins_url}/health"
        servers["standins"] = (self._child("standins", "local.standins", arguments, environ, check), check)
        self._begin(servers)
        return [name for name in servers if name != "standins"]

    def _served(self, role: str, environ: Mapping[str, str], *arguments: str | Path) -> tuple[Server, str]:
        port = self._ports[role]
        kind = "events" if role.startswith("events") else "agents" if role == "agents" else "file"
        check = f"http://{_LOOPBACK}:{port}{_FUNCTIONS}"
        return self._child(role, "local.server", (kind, "--port", str(port), *arguments), environ, check), check

    def _gateway(self, name: str, role: str, environ: Mapping[str, str], *arguments: str | Path) -> tuple[Server, str]:
        own = self._ports[name] = self._unused_port()
        address = ("--host", self._host, "--port", str(self._port), "--own-port", str(own))
        check = f"{self.url}/livez#{own}"
        return self._child(name, "local.server", (role, *address, *arguments), environ, check), check

    def _own_agents(self) -> dict[str, tuple[Server, str]]:
        servers = {}
        for source in self._agents:
            if not source.is_file():
                raise StartError(f"there is no file {source}; --agent takes a Python file that declares an activity")
            name = f"agent-{source.stem}"
            while name in servers:
                name += "-2"
            self._ports[name] = self._unused_port()
            # Its author's environment is the agent's own, but for what speaks of a fabric: that is told by this stack.
            own = {key: value for key, value in os.environ.items() if not key.startswith("CFM_")}
            servers[name] = self._served(name, own | self._agents_environ(name), "--source", source)
        return servers

    def _trigger(self, suffix: str, targets: Sequence[dict[str, Any]]) -> tuple[Server, str]:
        targets_file = self.data / f"targets{suffix}.json"
        targets_file.write_text(json.dumps({"targets": list(map(self._told, targets))}, indent=1))
        health_address = f"{_LOOPBACK}:{self._ports[f'trigger-health{suffix}']}"
        environ = (
            self._environ()
            | self._nats_environ(targets)
            | {
                "CFM_DATABASE_URL": self._role_url(Role.TRIGGER),
                "CFM_TRIGGER_ADDRESS": self._trigger_address(suffix),
                **self._wake_keys(),
                "CFM_EVENT_KEY_FILE": str(self.data / "event-key"),
                "CFM_TRIGGER_HEALTH": health_address,
                "CFM_HANDOVER": self._handovers[suffix],
                "CFM_COMPLETION_URL": f"{self.url}/api/v1alpha1",
                "CFM_COMPLETION_KEY": self._secrets["completion"],
            }
        )
        check = f"http://{health_address}/readyz"
        arguments = ("--targets", targets_file)
        return self._child(f"trigger{suffix}", "cfm_core.eventing.trigger", arguments, environ, check), check

    def _start_isolated(self) -> list[dict[str, Any]]:
        """Start a process for every function of the project and one before them; gives the trigger's targets."""
        listed = subprocess.run(
            [sys.executable, "-m", "local.server", "list"],
            env=base_environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if listed.returncode != 0:
            raise StartError(f"the functions cannot be listed:\n{listed.stderr}")
        servers, targets = {}, []
        upstreams = self.data / "upstreams.json"
        for function in json.loads(listed.stdout):
            name = function["name"]
            port = self._ports[name] = self._unused_port()
            if function["agent"]:
                environ = self._agents_environ("agents") | {"CFM_EVENT_TOKENS_FILE": str(self._tokens_file(name))}
            else:
                environ = self._events_environ("", name) if function["target"] else self._api_environ()
            arguments = ("function", "--port", str(port), "--source", function["source"], "--name", name)
            check = f"http://{_LOOPBACK}:{port}{_FUNCTIONS}"
            servers[name] = (self._child(name, "local.server", arguments, environ, check), check)
            if function["target"]:
                self._write_tokens(name, [name])
                targets.append(function["target"] | {"url": f"http://{_LOOPBACK}:{port}/"})
        upstreams.write_text(json.dumps({name: self._ports[name] for name in servers}))
        self._begin(servers)
        self._await(*servers)
        environ = {name: value for name, value in self._api_environ().items() if "DATABASE_URL" not in name}
        self._begin({"gateway": self._gateway("gateway", "proxy", environ, "--upstreams", upstreams)})
        return targets

    def _start_detached(self) -> None:
        options: list[str | Path] = ["--data", self.data, "--host", self._host, "--port", str(self._port)]
        options += [part for agent in self._agents for part in ("--agent", agent)]
        options += ["--database-url", self._given_database_url] if self._given_database_url else []
        options += ["--nats-url", self._given_nats_url] if self._given_nats_url else []
        options += [] if self.auth else ["--no-auth"]
        options += ["--isolated"] if self._isolated else []
        done = subprocess.run(
            [sys.executable, "-m", "local", "up", "--detach", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        found = state.running(self.data)
        if done.returncode != 0 or found is None:
            raise StartError(done.stderr.strip())
        self._detached = True
        self._port = urlsplit(found.url).port or 0
        self._database_url, self._nats_url = found.database_url, found.nats_url
        self._ports["standins"] = urlsplit(found.standins_url).port or 0
        self._secrets["standins"] = found.standins_token

    def _trigger_identity(self, targets: Sequence[dict[str, Any]]) -> Identity:
        """What the triggers are at the embedded NATS: all of them do the work of both managers' and of the agents'."""
        return joined("trigger", identities(target["subject"] for target in targets))

    # What each process is told

    def _api_environ(self, name: str = GATEWAYS[0]) -> dict[str, str]:
        # The second gateway wakes the second trigger, if there is one.
        suffix = name.removeprefix(GATEWAYS[0])
        database = self._database_environ(suffix if suffix in self._handovers else "", *_MANAGERS)
        key = {"CFM_COMPLETION_KEY": self._secrets["completion"]}
        if self._isolated:
            # The gateway asks on behalf of its clients.
            key["CFM_TRUSTED_PROXIES"] = "1"
        return self._environ() | database | key | (self._issuer.environ if self.auth else {"CFM_AUTH": "off"})

    def _events_environ(self, suffix: str, name: str) -> dict[str, str]:
        database = self._database_environ(suffix, *_MANAGERS, Role.MAINTENANCE)
        return self._environ() | database | {"CFM_EVENT_TOKENS_FILE": str(self._tokens_file(name))}

    def _agents_environ(self, name: str) -> dict[str, str]:
        """No database, no NATS, no keys of the platform: their event tokens, secrets of their own, the services' addresses."""
        services = agent_environment(self.standins_url, self.standins_token, self.data / "service-account-token")
        secrets_file = self.data / f"secrets-{name}.json"
        FileSecretStore(secrets_file).put("keycloak/admin", admin_password(self.standins_token))
        return self._environ() | {
            **services,
            **(self._records_environ() if name == "agents" else {}),
            "CFM_EVENT_TOKENS_FILE": str(self._tokens_file(name)),
            "CFM_SECRETS_FILE": str(secrets_file),
            "CFM_SUPERVISED": "1",
            # The API's own addresses come with activities, and lead to this machine.
            "CFM_OUTBOUND_NETWORKS": f"127.0.0.0/8,::1,{urlsplit(self.url).hostname}",
        }

    def _records_environ(self) -> dict[str, str]:
        """Where the agent of reconciliation reads our records, and with what: a token that can do nothing else."""
        url = {"CFM_TENANT_MANAGER_URL": self.url}
        if not self.auth:
            return url
        token = self._issuer.token(["tenant-manager-api:read"], "cfm-reconciliation", timedelta(days=366))
        return url | {"CFM_TENANT_MANAGER_TOKEN_FILE": str(state.put_secret(self.data, state.RECORDS_TOKEN, token))}

    def _tokens_file(self, name: str) -> Path:
        return self.data / f"event-tokens-{name}.json"

    def _database_environ(self, suffix: str, *roles: Role) -> dict[str, str]:
        urls = {f"CFM_{role.upper()}_DATABASE_URL": self._role_url(role) for role in roles}
        return urls | {"CFM_TRIGGER_ADDRESS": self._trigger_address(suffix), **self._wake_keys()}

    def _role_url(self, role: Role) -> str:
        return url_of(role, self._database_url, self._passwords[role])

    def _trigger_address(self, suffix: str) -> str:
        return f"{_LOOPBACK}:{self._ports[f'trigger{suffix}']}"

    def _wake_keys(self) -> dict[str, str]:
        return {f"CFM_{role.upper()}_WAKE_KEY": self._secrets[f"{role.replace('_', '-')}-wake"] for role in _MANAGERS}

    def _nats_environ(self, targets: Sequence[dict[str, Any]]) -> dict[str, str]:
        if self._nats is None:
            return {"CFM_NATS_URL": self._nats_url}
        identity = self._trigger_identity(targets)
        return {
            "CFM_NATS_URL": self._nats.url_for(identity.name, self._secrets["nats"]),
            "CFM_NATS_INBOX_PREFIX": identity.inbox_prefix,
        }

    def _environ(self) -> dict[str, str]:
        return base_environ() | {state.MARK: str(self.data)}

    # Keeping

    def _child(
        self, name: str, module: str, arguments: Sequence[str | Path], environ: Mapping[str, str], check: str
    ) -> Child:
        return Child(
            module,
            *arguments,
            log=self._log(name),
            env=environ,
            ready=lambda: health.healthy(check),
            seconds=_ISOLATED_SECONDS if self._isolated else _START_SECONDS,
        )

    def _begin(self, servers: Mapping[str, tuple[Server, str]]) -> None:
        """Begin to start some servers, which do not need each other; they are stopped together."""
        stage = []
        for name, (server, check) in servers.items():
            self._checks[name] = check
            self._keepers[name] = Keeper(name, server, changed=self._changed, say=self.report)
            stage.append(self._keepers[name])
        self._stages.append(stage)
        for keeper in stage:
            keeper.start()

    def _await(self, *names: str) -> None:
        """Return when the servers of these names are ready; what has failed meanwhile, whichever it is, ends the start."""
        waiting = set(names) - self._up
        while waiting:
            keeper = self._settled.get()
            if keeper.failure is not None:
                raise StartError(str(keeper.failure)) from keeper.failure
            self._up.add(keeper.name)
            waiting.discard(keeper.name)

    def _changed(self, keeper: Keeper) -> None:
        if keeper.restarts == 0:
            self._settled.put(keeper)
        else:
            self._write()

    def _targets(self, name: str) -> list[dict[str, Any]]:
        """What the functions that ``name`` serves are to the trigger."""
        _, body = health.get(self._checks[name])
        targets = [function["target"] for function in json.loads(body) if function["target"] is not None]
        self._write_tokens(name, [target["name"] for target in targets])
        return targets

    def _write_tokens(self, name: str, functions: Iterable[str]) -> None:
        """Tell the process ``name`` what opens its functions; it reads that when the first event comes."""
        file = self._tokens_file(name)
        partial = file.with_suffix(".partial")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
            opened.write(event_tokens.dump([self._event_key], functions))
        partial.rename(file)

    def _write(self) -> None:
        with self._writing:
            state.write(
                self.data,
                StackState(
                    pid=os.getpid(),
                    ready=self._ready,
                    url=self.url,
                    auth=self.auth,
                    database_url=self._database_url,
                    nats_url=self._nats_url,
                    standins_url=self.standins_url,
                    standins_token=self._secrets["standins"],
                    processes=self.processes,
                ),
            )

    def _unused_port(self) -> int:
        """A free port that no other process of this stack has been promised."""
        while (port := free_port()) in self._ports.values() or port == self._port:
            pass
        return port

    def _log(self, name: str) -> Path:
        return state.logs(self.data) / f"{name}.log"


def _merged(built_in: Iterable[dict[str, Any]], own: Iterable[Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All targets; an agent of one's own replaces the project's for the same activity type."""
    mine: dict[str, dict[str, Any]] = {}
    for target in (target for targets in own for target in targets):
        if mine.setdefault(target["subject"], target) is not target:
            raise StartError(f"two --agent files serve {target['activity']['activityType']}; leave one out")
    names = {target["name"] for target in mine.values()}
    kept = [one for one in built_in if one["subject"] not in mine or not one["subject"]]
    for one in kept:
        if one["name"] in names:
            raise StartError(f"the project has a function named {one['name']}; give your agent's class another name")
    return [*kept, *mine.values()]


def _address_of(host: str) -> str:
    """The address that ``host`` names: the server listens on addresses only.

    Raises:
        StartError: nobody knows that name.
    """
    try:
        return str(socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4][0])
    except OSError as error:
        raise StartError(f"nobody knows the host {host!r}: {error.strerror or error}") from None


def _check_address(host: str, port: int) -> None:
    """Raises PortError where ``port`` is taken, StartError where nothing can listen on ``host``."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortError(
                f"port {port} on {host} is taken; name another with --port N, or let --port 0 find a free one"
            ) from None
        number = error.errno or 0
        remedy = "; name a port of 1024 or more with --port N" if number == errno.EACCES else ""
        reason = os.strerror(number) if number in errno.errorcode else str(error)
        raise StartError(f"cannot listen on {host} port {port}: {reason}{remedy}") from None


def _check_nats(url: str) -> None:
    """Raises StartError unless a NATS server answers at ``url`` that is new enough and has JetStream."""
    where = urlsplit(url).hostname
    try:
        info = health.nats_info(url)
    except (OSError, ValueError) as error:
        raise StartError(f"no NATS server answers at {where}: {error}; look at --nats-url") from None
    version = tuple(int(part) for part in str(info.get("version", "0")).split("-")[0].split(".")[:2])
    if version < _OLDEST_NATS:
        raise StartError(f"NATS at {where} is {info['version']}; 2.10 or newer is needed")
    if not info.get("jetstream"):
        raise StartError(f"NATS at {where} has no JetStream; start it with -js")
