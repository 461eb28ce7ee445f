"""What an activity sees of its orchestration, and where it leaves what it found."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import pydantic

from cfm_core.contracts.activity import LONGEST_PROGRESS, ActivityDispatch
from cfm_core.contracts.orchestration import VPA_DATA
from cfm_core.contracts.secrets import SecretReference, is_beginning
from cfm_core.errors import FatalError, ValidationError

Model = TypeVar("Model", bound=pydantic.BaseModel)

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_BEAT_SECONDS = 1.0
_SHORTEST_SECRET = 8
"""A shorter text may stand anywhere by chance."""


class SecretSource(Protocol):
    """Where secrets are read from by their names."""

    def get(self, name: str) -> str:
        """Raises NotFoundError where there is none of this name."""
        ...


class Secrets:
    """A read-only view of the secret store: the names that the activity declares, and no others.

    A declared name that is a reference and ends with ``*`` stands for all references that begin like it. So an activity reads
    what its values refer to, and whoever wrote the values cannot have it read anything else.
    """

    def __init__(self, store: SecretSource | None, names: Iterable[str], activity_type: str) -> None:
        self._store = store
        declared = frozenset(names)
        self._names = frozenset(name for name in declared if not is_beginning(name))
        self._beginnings = tuple(name.removesuffix("*") for name in declared - self._names)
        self._activity_type = activity_type
        self._given: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """Read a secret as it is now.

        Raises:
            FatalError: the activity does not declare this name.
            NotFoundError: the store has no such secret.
            RecoverableError: the store does not answer.
        """
        if name not in self._names and not self._is_covered(name):
            raise FatalError(
                f"activity {self._activity_type} does not declare the secret {name!r}; name it in secrets=[...]"
            )
        if self._store is None:
            raise FatalError(f"there is no secret store to read {name!r} from")
        self._given[name] = value = self._store.get(name)
        return value

    def _is_covered(self, name: str) -> bool:
        try:
            return str(SecretReference.parse(name)).startswith(self._beginnings)
        except ValidationError:
            return False

    def __repr__(self) -> str:
        return f"<Secrets {sorted([*self._names, *(f'{one}*' for one in self._beginnings)])}>"

    def found_in(self, text: str) -> str | None:
        """The name of a secret that was read and whose value stands in ``text``."""
        for name, value in self._given.items():
            if len(value) >= _SHORTEST_SECRET and (value in text or json.dumps(value)[1:-1] in text):
                return name
        return None

    def blacked_out(self, text: str) -> str:
        """``text`` without the values of the secrets that were read."""
        for name, value in self._given.items():
            if len(value) >= _SHORTEST_SECRET:
                # As it is, and as it stands in a quoted body or in the text of an exception.
                for form in (value, json.dumps(value)[1:-1], repr(value)[1:-1]):
                    text = text.replace(form, f"[secret {name}]")
        return text


@dataclass(frozen=True, slots=True)
class Completion:
    """With what somebody else ends a waiting activity: a POST to ``url``, which shows ``token``.

    A body ``{"token": ..., "values": {...}, "outputs": {...}}`` completes it, one with ``"error"`` fails it.
    """

    token: str = field(repr=False)
    url: str
    """Empty where the trigger does not know the API's address, or has no key."""


class _Log(logging.LoggerAdapter[logging.Logger]):
    """Says in each record which activity it is about."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


class ActivityContext:
    """One attempt at one activity.

    What is recorded with ``set_value``, ``delete_value`` and ``set_output`` is kept whatever the attempt's result is, so an
    id that was made up can be recorded before it is first used.
    """

    def __init__(
        self,
        dispatch: ActivityDispatch,
        *,
        secrets: SecretSource | None = None,
        secret_names: Iterable[str] = (),
        beat: Callable[[Any], bool] = lambda _: True,
    ) -> None:
        self._dispatch = dispatch
        self._beat = beat
        self._beat_at: float | None = None
        self._wanted = True
        self._values = dict(dispatch.values)
        self._outputs = dict(dispatch.outputs)
        self.recorded_values: dict[str, Any] = {}
        self.recorded_deletions: dict[str, None] = {}
        self.recorded_outputs: dict[str, Any] = {}
        self.secrets = Secrets(secrets, secret_names, dispatch.activity_type)

    @property
    def orchestration_id(self) -> str:
        return self._dispatch.orchestration_id

    @property
    def activity_id(self) -> str:
        """The activity's name within its orchestration."""
        return self._dispatch.activity_id

    @property
    def activity_type(self) -> str:
        return self._dispatch.activity_type

    @property
    def discriminator(self) -> str:
        """The type of the orchestration: what is to be done."""
        return self._dispatch.discriminator

    @property
    def attempt(self) -> int:
        """1 for the first; each failure adds one."""
        return self._dispatch.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this activity; for an outside system that can recognise repetitions."""
        return self._dispatch.idempotency_key

    @property
    def deadline(self) -> datetime | None:
        """After this instant nobody waits for the result any more."""
        return self._dispatch.deadline

    @property
    def correlation_id(self) -> str:
        return self._dispatch.correlation_id

    @property
    def values(self) -> Mapping[str, Any]:
        """The processing data of the orchestration, with what this attempt has set and deleted."""
        return MappingProxyType(self._values)

    @property
    def outputs(self) -> Mapping[str, Any]:
        """What the orchestration gives back so far, with what this attempt has set."""
        return MappingProxyType(self._outputs)

    def read(self, model: type[Model]) -> Model:
        """Check the values against a pydantic model, whose aliases are the values' names.

        Raises:
            FatalError: a required value is missing or wrong; the text names it.
        """
        try:
            return model.model_validate(self._values)
        except pydantic.ValidationError as error:
            problems = "; ".join(
                f"value {'.'.join(map(str, item['loc']))!r} "
                + ("is missing" if item["type"] == "missing" else f"is wrong: {item['msg']}")
                for item in error.errors(include_url=False, include_context=False, include_input=False)
            )
            raise FatalError(problems) from None

    def vpa_properties(self, vpa_type: str) -> Mapping[str, Any] | None:
        """The properties of the first VPA of this type; None where there is no such VPA, empty where it has none.

        Raises:
            FatalError: the orchestration's VPA data are not a list of objects.

        Source: dataspace service contracts, section 1.1.
        """
        entries = self._values.get(VPA_DATA)
        if entries is None:
            return None
        if not isinstance(entries, list):
            raise FatalError(f"value {VPA_DATA!r} is not a list")
        for entry in entries:
            if not isinstance(entry, dict):
                raise FatalError(f"value {VPA_DATA!r} holds something that is not an object")
            if entry.get("vpaType") == vpa_type:
                return MappingProxyType(entry.get("properties") or {})
        return None

    def set_value(self, key: str, value: Any) -> None:
        """Keep ``value`` for the activities that follow, and for the next attempts at this one.

        Raises:
            FatalError: the value is not JSON, or holds a secret.
        """
        checked = self._json(key, value)
        self._values[key] = self.recorded_values[key] = checked
        self.recorded_deletions.pop(key, None)

    def delete_value(self, key: str) -> None:
        """Forget a value; no matter if there is none."""
        self._values.pop(key, None)
        self.recorded_values.pop(key, None)
        self.recorded_deletions[key] = None

    def set_output(self, key: str, value: Any) -> None:
        """Give ``value`` back to whoever started the orchestration.

        Raises:
            FatalError: the value is not JSON, or holds a secret.
        """
        self._outputs[key] = self.recorded_outputs[key] = self._json(key, value)

    @property
    def completion(self) -> Completion:
        """How somebody else ends this activity once it has answered Wait."""
        given = self._dispatch.completion
        return Completion(given.token, given.url) if given else Completion("", "")

    def heartbeat(self, progress: object = None) -> bool:
        """Say that the attempt is at work, and how far: small and JSON, shown to operators.

        May be called as often as one likes: of several calls within a second, one is sent. One that does not arrive is no
        failure.

        Returns:
            Whether the attempt is still waited for; if not, it had better end.

        Raises:
            FatalError: the progress is not JSON, is too large, or holds a secret.
        """
        said = None if progress is None else self._json("progress", progress)
        if len(json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()) > LONGEST_PROGRESS:
            raise FatalError(f"the progress takes more than {LONGEST_PROGRESS} bytes")
        now = time.monotonic()
        if self._beat_at is None or now - self._beat_at >= _BEAT_SECONDS:
            self._beat_at = now
            self.log.info("at work: %s", progress)
            self._wanted = self._beat(said)
        return self._wanted

    @cached_property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records name this activity."""
        return _Log(
            logging.getLogger(f"cfm.agent.{self.activity_type}"),
            {
                "orchestration_id": self.orchestration_id,
                "activity_id": self.activity_id,
                "attempt": self.attempt,
                "correlation_id": self.correlation_id,
            },
        )

    def _json(self, key: str, value: Any) -> Any:
        """A copy of ``value`` as others will read it."""
        if not isinstance(key, str) or not key:
            raise FatalError(f"the name of a value must be a text that is not empty, not {key!r:.100}")
        try:
            text = json.dumps(value, allow_nan=False, ensure_ascii=False)
            text.encode()
            if _NUL.search(text) or "\0" in key:
                raise ValueError("it contains a NUL character")
        except (TypeError, ValueError, RecursionError) as error:
            raise FatalError(f"value {key!r} is not JSON: {error}") from None
        if secret := self.secrets.found_in(text):
            raise FatalError(f"value {key!r} holds the secret {secret!r}; pass its name on, not its value")
        return json.loads(text)
