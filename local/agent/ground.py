"""Where an agent is checked: stand-ins that know nothing yet, services of its author's, and a wire in front of all of them."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from cfm_core.agent import ActivityEnvironment, ActivityResult, Complete, Fatal, Retry, Schedule, Wait
from cfm_core.assembly.secrets import FileSecretStore
from cfm_core.clients.http import HttpClient
from cfm_core.contracts.orchestration import (
    DEPLOY,
    DISPOSE,
    PARTICIPANT_ID,
    VPA_CREDENTIALS,
    VPA_DATA,
    VPA_STATE,
    compensation_id,
)
from cfm_core.dag import Graph
from cfm_core.errors import CfmError, FatalError
from cfm_core.settings import Settings
from local import seed
from local.agent import effects
from local.agent.files import declaration_of, project_activities
from local.agent.process import Process, secrets_of
from local.agent.wire import Wire
from local.standins import agent_environment
from local.standins.keycloak import admin_password
from local.standins.server import StandIns

STAND_INS = "stand-ins"
MOST_ATTEMPTS = 60
"""So often an undisturbed activity may ask for another turn."""
LONGEST_PAUSE = timedelta(seconds=2)
"""A service of the author's is looked at again after this time at the latest, whatever the agent asks for."""

_ISSUE_SECONDS = 3.0
_SETTLED_SECONDS = 60.0
_DEPLOY_ID = "check-deploy"
_DISPOSE_ID = "check-dispose"
_ROLLBACK = "rollback-of-"
"""An orchestration that disposes has activity ids of its own."""

DEMONSTRATION: Mapping[str, Any] = {
    PARTICIPANT_ID: "did:web:identityhub.edc-v.svc.cluster.local%3A7083:acme",
    VPA_DATA: [
        {"id": kind, "vpaType": kind, "cellId": "cell-1", "externalCellId": "", "properties": properties}
        for kind, properties in seed.VPA_PROPERTIES.items()
    ],
    VPA_CREDENTIALS: [spec for spec in seed.DATASPACE_PROFILE["dataspaceSpec"]["credentialSpecs"] if not spec["role"]],
}
"""The processing data of a deployment in the demonstration fabric."""


class GroundError(Exception):
    """An agent cannot be checked here; the text says what to do about it."""


class _Clock:
    """The stand-ins' time: it passes when the agent asks for a pause."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Ground:
    """Where one activity runs again and again; usable in a ``with`` block, in which the environment points here.

    Args:
        cls: the activity.
        values: processing data beside that of the demonstration, which they override.
        services: the author's own services: the environment variable in which the agent finds the address, and the address.

    Its preparation is what comes before the activity in the demonstration's deploy, all of it for a type that is not in there.
    """

    def __init__(
        self, cls: type[Any], values: Mapping[str, Any] | None = None, services: Mapping[str, str] | None = None
    ) -> None:
        self.cls = cls
        self.services = dict(services or {})
        self.wire = Wire()
        self._given = {**DEMONSTRATION, **(values or {})}
        self._before = _prerequisites(declaration_of(cls).activity_type)
        self._token = secrets.token_urlsafe(16)
        self._clock = _Clock()
        self._secrets: dict[str, str] = {}
        self._standins: StandIns | None = None
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Ground:
        try:
            self._exits.enter_context(self.wire)
            self._exits.callback(self._stop_standins)
            folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="cfm-agent-check-")))
            url = self.wire.front(STAND_INS, self._start_standins())
            environ = agent_environment(url, self._token, folder / "service-account-token")
            settings = Settings.from_environ()
            if settings.secrets_file or settings.secrets != "file":
                self._secrets = self._declared_secrets()  # the author's own, from where they are now
            else:
                environ["CFM_SECRETS_FILE"] = str(folder / "secrets.json")
                FileSecretStore(folder / "secrets.json").put("keycloak/admin", admin_password(self._token))
            environ |= {name: self.wire.front(name, address) for name, address in self.services.items()}
            self._exits.enter_context(_environment(environ))
            self._secrets = self._secrets or self._declared_secrets()
            self._http = HttpClient(Settings.from_environ().request_timeout)
            self._exits.callback(self._http.close)
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def fresh(self) -> None:
        """Begin anew, with stand-ins that hold nothing. What a service of the author's holds stays."""
        self._stop_standins()
        self.wire.lead(STAND_INS, self._start_standins())
        self.wire.forget()

    def process(self) -> Process:
        """The activity in a process of its own.

        Raises:
            GroundError: it cannot be made.
        """
        try:
            return Process(self.cls, self._http)
        except Exception as error:
            raise GroundError(f"{self.cls.__name__} cannot be made: {_text(error)}") from error

    def prepared(self) -> ActivityEnvironment:
        """A deployment in which it is the activity's turn.

        Raises:
            GroundError: what comes before it failed.
        """
        env = ActivityEnvironment(values=self._given, orchestration_id=_DEPLOY_ID, secrets=self._secrets)
        for activity_id, cls in self._before:
            env.activity_id = activity_id
            with Process(cls, self._http) as agent:
                result = self._run(env, agent, self._let_pass)
            if not isinstance(result, Complete):
                raise GroundError(f"before it, {declaration_of(cls).activity_type} ended with {result}")
        env.activity_id = _activity_id(declaration_of(self.cls).activity_type)
        env.attempt = 1
        self.wire.begin()
        return env

    def compensation(self, deployed: ActivityEnvironment) -> ActivityEnvironment:
        """What undoes a deployment that failed: it has all of its data."""
        return ActivityEnvironment(
            values={**deployed.values, "error": "something failed later"},
            discriminator=DISPOSE,
            orchestration_id=compensation_id(deployed.orchestration_id),
            activity_id=_ROLLBACK + deployed.activity_id,
            secrets=self._secrets,
        )

    def users_disposal(self, deployed: ActivityEnvironment) -> ActivityEnvironment:
        """What disposes of a participant at a user's wish: its data are one value with the outputs of the deployment.

        Source: dataspace service contracts, section 1.2.
        """
        return ActivityEnvironment(
            values={
                **{key: deployed.values[key] for key in (PARTICIPANT_ID, VPA_DATA) if key in deployed.values},
                VPA_STATE: copy.deepcopy(deployed.outputs),
            },
            discriminator=DISPOSE,
            orchestration_id=_DISPOSE_ID,
            activity_id=_ROLLBACK + deployed.activity_id,
            secrets=self._secrets,
        )

    def undo_preparation(self, env: ActivityEnvironment) -> None:
        """Dispose of what came before the activity.

        Raises:
            GroundError: one of them cannot be disposed of.
        """
        for activity_id, cls in reversed(self._before):
            env.activity_id = _ROLLBACK + activity_id
            with Process(cls, self._http) as agent:
                result = self._run(env, agent, self._let_pass)
            if not isinstance(result, Complete):
                raise GroundError(f"after it, {declaration_of(cls).activity_type} ended with {result}")

    def to_the_end(self, env: ActivityEnvironment, agent: Any) -> ActivityResult:
        """Run the activity until nothing more comes of it."""
        return self._run(env, agent, self.pause)

    def pause(self, result: Retry | Schedule) -> None:
        """Let the time pass that the activity asks for: at once for stand-ins, in truth for services of its author."""
        after = self._let_pass(result)
        if self.services:
            time.sleep(min(after, LONGEST_PAUSE).total_seconds())

    def _let_pass(self, result: Retry | Schedule) -> timedelta:
        after = result.after if result.after is not None else timedelta(seconds=1)
        self._clock.now += max(after.total_seconds(), 1.0)
        return after

    def _run(self, env: ActivityEnvironment, agent: Any, pause: Callable[[Retry | Schedule], object]) -> ActivityResult:
        for _ in range(MOST_ATTEMPTS):
            result = env.run(agent)
            if isinstance(result, Complete | Wait | Fatal):
                break
            pause(result)
        return result

    def held(self) -> Any:
        """All that stand-ins hold, and what requests have made of other services; ids and instants of services are blurred."""
        return self._blurred({**self._state(), **self._requests()})

    def left(self) -> Any:
        """The same without what may stay of something that was undone."""
        return self._blurred({**effects.without_remains(self._state()), **self._requests()})

    def recorded(self, document: Mapping[str, Any]) -> Any:
        """What the activity has recorded, with ids and instants of services blurred."""
        return effects.Origin(self.wire.calls).recorded(document)

    def _blurred(self, document: Any) -> Any:
        """A JSON document in which ids and instants of services are blurred, and without the activity's secrets."""
        found = effects.Origin(self.wire.calls).blurred(document)
        return json.loads(self.told(json.dumps(found, ensure_ascii=False))) if self._secrets else found

    def told(self, text: str) -> str:
        """``text`` without the secrets of the activity, also as they stand in JSON."""
        for name, value in self._secrets.items():
            for form in (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
                text = text.replace(form, f"[secret {name}]") if form else text
        return text

    def _declared_secrets(self) -> dict[str, str]:
        try:
            return secrets_of(self.cls)
        except CfmError as error:
            names = ", ".join(declaration_of(self.cls).secrets)
            raise GroundError(f"the secrets {names} cannot be read: {error}") from error

    def _state(self) -> dict[str, Any]:
        # What is under way shall have come to its end, whenever it was begun.
        self._clock.now += _SETTLED_SECONDS
        found: dict[str, Any] = effects.without_counts(self._standins.state() if self._standins is not None else {})
        return found

    def _requests(self) -> dict[str, Any]:
        return {
            name: effects.of_requests(call for call in self.wire.calls if call.service == name)
            for name in self.services
        }

    def _start_standins(self) -> str:
        self._clock.now = 0.0
        self._standins = StandIns(self._token, issue_delay=_ISSUE_SECONDS, key_delay=1.0, clock=self._clock)
        self._standins.start()
        return self._standins.url

    def _stop_standins(self) -> None:
        if self._standins is not None:
            self._standins.stop()
            self._standins = None


def _prerequisites(activity_type: str) -> Sequence[tuple[str, type[Any]]]:
    """The activities that come before one of this type in the demonstration, in an order in which they can run."""
    activities = {one["id"]: one for one in seed.ORCHESTRATION_TEMPLATE["activities"][DEPLOY]}
    graph = Graph({name: one.get("dependsOn", ()) for name, one in activities.items()})
    own = [name for name, one in activities.items() if one["type"] == activity_type]
    wanted = graph.ancestors(own) - set(own) if own else set(activities)
    agents = project_activities()
    return [(name, agents[activities[name]["type"]]) for name in graph.topological_order() if name in wanted]


def _activity_id(activity_type: str) -> str:
    found = (one["id"] for one in seed.ORCHESTRATION_TEMPLATE["activities"][DEPLOY] if one["type"] == activity_type)
    return next(found, re.sub(r"[^\w-]", "-", activity_type))


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, FatalError) else f"{type(error).__name__}: {error}"
