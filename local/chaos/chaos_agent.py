"""The agent of a run: does what the script of its orchestration says, and keeps a log of its own.

It is served from a copy in the directory of the run. ``executions.tsv`` beside that is only ever added to, one line at the
beginning and one at the end of each execution, and knows nothing of what the engine believes.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Fatal, Retry, Schedule, Wait, activity

_LARGE = 100_000
_LONGEST_WORK = 0.02
_POLICY: dict[str, Any] = {
    "timeout": timedelta(seconds=3),
    # More than any script has, so that only a script can end an orchestration badly.
    "max_attempts": 30,
    "backoff": timedelta(seconds=0.2),
    "backoff_limit": timedelta(seconds=1),
}


@cache
def _log() -> int:
    """The log; every write goes to its end, also after it has been emptied for the next run."""
    return os.open(Path(__file__).with_name("executions.tsv"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _note(ctx: ActivityContext, what: str, turn: int, word: str = "", url: str = "") -> None:
    run, phase, activity_id = ctx.idempotency_key.rsplit("/", 2)
    place = (run, ctx.discriminator, phase, activity_id)
    line = "\t".join(map(str, (time.monotonic_ns(), what, *place, turn, ctx.completion.token, word, url)))
    os.write(_log(), f"{line}\n".encode())


def _carry_out(ctx: ActivityContext, script: Mapping[str, Sequence[str]]) -> ActivityResult:
    words = script.get(ctx.activity_id) or ("complete",)
    turn = ctx.values.get(f"turn.{ctx.activity_id}", 0)
    word = words[min(turn, len(words) - 1)]
    _note(ctx, "begin", turn)
    time.sleep(random.Random(f"{ctx.idempotency_key}/{turn}").uniform(0, _LONGEST_WORK))  # the work  # noqa: S311 - chance that can be repeated
    ctx.set_value(f"turn.{ctx.activity_id}", turn + 1)
    _note(ctx, "end", turn, word, ctx.completion.url if word == "wait" else "")
    match word:
        case "complete":
            if ctx.values.get("large") == ctx.activity_id:
                ctx.set_output("large", "x" * _LARGE)
            return Complete()
        case "bad":
            ctx.set_value(f"turn.{ctx.activity_id}", "no number")
            return Complete()
        case "wait":
            return Wait(timeout=timedelta(minutes=10))
        case "schedule":
            return Schedule(after=timedelta(seconds=0.3))
        case "retry":
            return Retry("the script says so")
    return Fatal("the script says so")


class _Scripted:
    def process(self, ctx: ActivityContext) -> ActivityResult:
        return _carry_out(ctx, ctx.values["script"])

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        return _carry_out(ctx, (ctx.vpa_properties("cfm.connector") or {})["script"])

    def dispose(self, ctx: ActivityContext) -> ActivityResult:
        """Of a participant, or of whatever else has a compensation."""
        return self.process(ctx) if "script" in ctx.values else self.deploy(ctx)


@activity("chaos.one", **_POLICY)
class ChaosOne(_Scripted):
    """Does what the script says."""


@activity("chaos.two", **_POLICY)
class ChaosTwo(_Scripted):
    """Does what the script says."""


@activity("chaos.checked", **_POLICY)
class ChaosChecked(_Scripted):
    """Does what the script says, with data that are held against schemas."""


@activity("chaos.limited", **_POLICY)
class ChaosLimited(_Scripted):
    """Does what the script says, a few at a time."""
