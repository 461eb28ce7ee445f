"""What each trigger may do at NATS: derived from what is declared, and written as nats-server reads it.

An identity publishes what its functions announce, and dead letters about what they handle; it takes in what they handle, and
has an inbox that nobody else may listen to. Agents have none: a trigger speaks for them. Where they are several, the managers'
share an account of the server and each other has one of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cfm_core.contracts import subjects
from cfm_core.errors import FatalError

TENANT_MANAGER = "tenant-manager"
PROVISION_MANAGER = "provision-manager"
_AGENT = "agent-"
_LISTENER = "listener-"

ACCOUNT = "CFM"
"""The account of the managers and of the streams."""
_API = "$JS.API"
_PULL = f"{_API}.CONSUMER.MSG.NEXT"
_API_OF_GUESTS = f"JS.{ACCOUNT}.API"
_MANY_ANSWERS = {"response_type": "stream", "response_threshold": "1m"}
"""A request for messages is answered as often as there is one, for 30 seconds; the server has to remember it so long."""

_OF_TENANT_MANAGER = tuple(sorted(subjects.TENANT_MANAGER_ANNOUNCES))
_OF_PROVISION_MANAGER = (
    subjects.MANIFESTS,  # what undoes a run is asked for by one
    subjects.RESPONSES,
    subjects.activity(">"),
    subjects.INPUTS,
    subjects.CALLS,
    subjects.RESULTS,
    subjects.ACTIVITY_TYPES,
    subjects.AGAIN,
)
_HANDLED_BY_TENANT_MANAGER = frozenset({subjects.RESPONSES})


@dataclass(frozen=True, slots=True)
class Identity:
    """One user of NATS: a trigger, or several that share their work.

    Args:
        handles: the subjects that it takes in.
        announces: the subjects that it publishes.
        makes_streams: whether it makes a stream that is missing; the managers do, an agent's trigger waits.
    """

    name: str
    handles: tuple[str, ...]
    announces: tuple[str, ...]
    makes_streams: bool

    @property
    def inbox_prefix(self) -> str:
        """What ``CFM_NATS_INBOX_PREFIX`` has to be."""
        return f"_INBOX.{self.name}"

    def publishes(self, contract_stream: str = subjects.STREAM, edc_stream: str = subjects.EDC_STREAM) -> list[str]:
        """Every subject that it needs to publish on, those of JetStream's API included."""
        publish = [*self.announces]
        foreign = (edc_stream,) if any(map(subjects.is_foreign, self.handles)) else ()
        for stream in (contract_stream, subjects.ACTIVITY_STREAM, *foreign):
            publish.append(f"{_API}.STREAM.INFO.{stream}")
            if self.makes_streams:
                publish.append(f"{_API}.STREAM.CREATE.{stream}")
        for subject in self.handles:
            if subject in subjects.CONTRACT_SUBJECTS:
                stream = contract_stream
            else:
                stream = edc_stream if subjects.is_foreign(subject) else subjects.ACTIVITY_STREAM
            consumer = subjects.consumer(subject)
            publish += [
                f"{_API}.CONSUMER.INFO.{stream}.{consumer}",
                # With the filter in it: a consumer of this name for anything else cannot be made.
                f"{_API}.CONSUMER.CREATE.{stream}.{consumer}.{subject}",
                f"{_PULL}.{stream}.{consumer}",
                f"$JS.ACK.{stream}.{consumer}.>",
            ]
        return publish

    def user(self, password: str, publishes: Iterable[str]) -> dict[str, Any]:
        """The user as nats-server is configured with it; nowhere else than there may it publish."""
        permissions = {"publish": {"allow": [*publishes]}, "subscribe": {"allow": [f"{self.inbox_prefix}.>"]}}
        return {"user": self.name, "password": password, "permissions": permissions}


def identities(handled: Iterable[str], listeners: Mapping[str, str] = MappingProxyType({})) -> tuple[Identity, ...]:
    """One identity for each manager's trigger and for a trigger of each agent.

    Args:
        handled: the subjects of all event functions and agents that are declared.
        listeners: the agent that listens to a subject of others; without one, each of these subjects is somebody's of its own.
    """
    by_owner: dict[str, list[str]] = {TENANT_MANAGER: [], PROVISION_MANAGER: []}
    for subject in sorted(filter(None, handled)):
        activity_type = subject.removeprefix(subjects.activity(""))
        if activity_type != subject:
            by_owner[_AGENT + activity_type.replace(".", "=")] = [subject]
        elif subjects.is_foreign(subject):
            by_owner.setdefault(_LISTENER + listeners.get(subject, subjects.consumer(subject)), []).append(subject)
        elif subject in _HANDLED_BY_TENANT_MANAGER:
            by_owner[TENANT_MANAGER].append(subject)
        else:
            by_owner[PROVISION_MANAGER].append(subject)
    announced = {TENANT_MANAGER: _OF_TENANT_MANAGER, PROVISION_MANAGER: _OF_PROVISION_MANAGER}

    def identity(name: str, handles: list[str]) -> Identity:
        announces = announced.get(name) or [one for subject in handles for one in _announced_about(subject)]
        letters = [subjects.dead_letter(subject) for subject in handles if subject != subjects.DEAD_LETTERS]
        taken_in = dict.fromkeys([*handles, *map(subjects.again, handles)])
        return Identity(name, tuple(taken_in), (*announces, *letters), makes_streams=name in announced)

    return tuple(identity(name, handles) for name, handles in by_owner.items())


def _announced_about(handled: str) -> tuple[str, ...]:
    """What is announced by who runs the activities of a subject; nothing by who listens to others."""
    activity_type = handled.removeprefix(subjects.activity(""))
    return () if activity_type == handled else (subjects.RESULTS, subjects.announcement(activity_type))


def joined(name: str, parts: Iterable[Identity]) -> Identity:
    """An identity for one trigger that does the work of several."""
    parts = tuple(parts)
    return Identity(
        name,
        tuple(dict.fromkeys(subject for part in parts for subject in part.handles)),
        tuple(dict.fromkeys(subject for part in parts for subject in part.announces)),
        any(part.makes_streams for part in parts),
    )


def accounts(
    names: Iterable[Identity],
    password: Callable[[Identity], str],
    contract_stream: str = subjects.STREAM,
    edc_stream: str = subjects.EDC_STREAM,
) -> dict[str, Any]:
    """The accounts of a nats-server by their names: the managers' one with JetStream, and one for each other identity.

    From the managers' the others import what they need, as services. So an answer, or a message, for which one of them names
    another subject than its inbox arrives there in its own account, and nowhere else.
    """
    hosts: list[dict[str, Any]] = []
    guests: dict[str, Any] = {}
    exported: dict[str, list[str]] = {}
    for one in names:
        publishes = one.publishes(contract_stream, edc_stream)
        if one.makes_streams:
            hosts.append(one.user(password(one), publishes))
            continue
        here = {subject: subject.replace(_API, _API_OF_GUESTS, 1) for subject in publishes}
        guests[one.name] = {
            "users": [one.user(password(one), here.values())],
            # The server has an answer of its own to the API, for accounts without JetStream: none may get as far as that.
            "mappings": {f"{_API}.>": f"{_API_OF_GUESTS}.>"},
            "imports": [{"service": {"account": ACCOUNT, "subject": there}, "to": to} for there, to in here.items()],
        }
        for subject in publishes:
            exported.setdefault(subject, []).append(one.name)
    exports = [
        {"service": subject, "accounts": to} | (_MANY_ANSWERS if subject.startswith(_PULL) else {})
        for subject, to in exported.items()
    ]
    return {ACCOUNT: {"jetstream": "enabled", "users": hosts, "exports": exports}} | guests


def render(
    names: Iterable[Identity], contract_stream: str = subjects.STREAM, edc_stream: str = subjects.EDC_STREAM
) -> str:
    """The accounts for the configuration of a nats-server, to be included in it.

    Passwords are variables of the server's environment, such as ``$CFM_NATS_PASSWORD_TENANT_MANAGER``.

    Raises:
        FatalError: two identities would have the same variable.
    """
    names = tuple(names)
    variables: dict[str, str] = {}
    for one in names:
        variable = "$CFM_NATS_PASSWORD_" + re.sub(r"\W", "_", one.name, flags=re.ASCII).upper()
        if other := next((name for name, known in variables.items() if known == variable), ""):
            raise FatalError(f"{other} and {one.name} would both have the password {variable}; rename an activity type")
        variables[one.name] = variable
    text = json.dumps(accounts(names, lambda one: variables[one.name], contract_stream, edc_stream), indent=1)
    # Unquoted: in quotes it would be a text that begins with a dollar sign.
    return "accounts: " + re.sub(r'(?<="password": )"(\$\w+)"', r"\1", text) + "\n"
