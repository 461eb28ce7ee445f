"""Runs activities in a test: no broker, no database, no threads."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from cfm_core.agent.context import ActivityContext
from cfm_core.agent.execution import attempt
from cfm_core.agent.results import ActivityResult, Retry
from cfm_core.contracts.activity import ActivityDispatch, Address
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from cfm_core.errors import NotFoundError


class _GivenSecrets:
    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = secrets

    def get(self, path: str) -> str:
        if path not in self._secrets:
            raise NotFoundError("secret", path)
        return self._secrets[path]


class ActivityEnvironment:
    """An orchestration of one activity, for a test.

    It does what the engine does: ``values`` and ``outputs`` keep what an attempt recorded, so that the next one finds it,
    and ``attempt`` rises with a Retry. An exception becomes the result that the engine would be told. ``progress`` is what the
    activity has said last of how far it is.

    Args:
        values: the processing data.
        discriminator: the type of the orchestration; ``run`` and ``dispose`` say it otherwise.
        secrets: what ``ctx.secrets`` gives, of what the activity declares.
    """

    def __init__(
        self,
        *,
        values: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        discriminator: str = DEPLOY,
        orchestration_id: str = "orchestration-1",
        activity_id: str = "activity-1",
        correlation_id: str = "correlation-1",
        attempt: int = 1,
        deadline: datetime | None = None,
        secrets: Mapping[str, str] | None = None,
        completion_url: str = "",
    ) -> None:
        self.values: dict[str, Any] = copy.deepcopy(dict(values or {}))
        self.outputs: dict[str, Any] = copy.deepcopy(dict(outputs or {}))
        self.discriminator = discriminator
        self.orchestration_id = orchestration_id
        self.activity_id = activity_id
        self.correlation_id = correlation_id
        self.attempt = attempt
        self.deadline = deadline
        self.completion_url = completion_url
        self.progress: Any = None
        self._secrets = _GivenSecrets(dict(secrets or {}))

    def run(self, instance: object, discriminator: str = "") -> ActivityResult:
        """Run one attempt and give its result."""
        ctx = self.context(instance, discriminator)
        result = attempt(instance, ctx)
        self.values.update(copy.deepcopy(ctx.recorded_values))
        for key in ctx.recorded_deletions:
            self.values.pop(key, None)
        self.outputs.update(copy.deepcopy(ctx.recorded_outputs))
        if isinstance(result, Retry):
            self.attempt += 1
        return result

    def dispose(self, instance: object) -> ActivityResult:
        """Run one attempt at undoing, and give its result."""
        return self.run(instance, DISPOSE)

    def context(self, instance: object = None, discriminator: str = "") -> ActivityContext:
        """What an attempt would be given."""
        declaration = getattr(instance, "__activity__", None)
        dispatch = ActivityDispatch(
            orchestration_id=self.orchestration_id,
            phase=0,
            ord=0,
            token="token-of-a-test",  # noqa: S106 - it opens nothing
            completion=self._completion(),
            activity_id=self.activity_id,
            activity_type=declaration.activity_type if declaration else "test",
            discriminator=discriminator or self.discriminator,
            correlation_id=self.correlation_id,
            attempt=self.attempt,
            deadline=self.deadline,
            values=copy.deepcopy(self.values),
            outputs=copy.deepcopy(self.outputs),
        )
        return ActivityContext(
            dispatch,
            secrets=self._secrets,
            secret_names=declaration.secrets if declaration else (),
            beat=self._beat,
        )

    def _completion(self) -> Address:
        url = self.completion_url
        if url:
            about = (
                f"orchestrations/{quote(self.orchestration_id, safe='')}/activities/{quote(self.activity_id, safe='')}"
            )
            url = f"{url.rstrip('/')}/{about}/complete"
        return Address(url=url, token="token-of-a-test")  # noqa: S106 - it opens nothing

    def _beat(self, progress: Any) -> bool:
        self.progress = progress
        return True
