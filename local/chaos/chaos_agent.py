"""The agent of a run: does what the script of its orchestration says, and keeps a log of its own.

It is served from a copy in the directory of the run. ``executions.jsonl`` beside that is only ever added to, one line at the
beginning and one at the end of each execution, and knows nothing of what the engine believes.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from cfm_core.agent import ActivityContext, ActivityResult, Complete, Fatal, Retry, Schedule, Wait, activity

_LOG = Path(__file__).with_name("executions.jsonl")
_LONGEST_WORK = 0.02
_POLICY: dict[str, Any] = {
    "timeout": timedelta(seconds=3),
    # More than any script has, so that only a script can end an orchestration badly.
    "max_attempts": 30,
    "backoff": timedelta(seconds=0.2),
    "backoff_limit": timedelta(seconds=1),
}


def _note(ctx: ActivityContext, what: str, turn: int, **more: Any) -> None:
    run, phase, activity_id = ctx.idempotency_key.rsplit("/", 2)
    entry = {"at": time.monotonic_ns(), "what": what, "run": run, "type": ctx.discriminator, "phase": int(phase)}
    entry |= {"activity": activity_id, "turn": turn, "token": ctx.completion.token, **more}
    descriptor = os.open(_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(descriptor)


def _carry_out(ctx: ActivityContext, script: Mapping[str, Sequence[str]]) -> ActivityResult:
    words = script.get(ctx.activity_id) or ("complete",)
    turn = ctx.values.get(f"turn.{ctx.activity_id}", 0)
    word = words[min(turn, len(words) - 1)]
    _note(ctx, "begin", turn)
    time.sleep(random.Random(f"{ctx.idempotency_key}/{turn}").uniform(0, _LONGEST_WORK))  # the work
    ctx.set_value(f"turn.{ctx.activity_id}", turn + 1)
    _note(ctx, "end", turn, word=word, **({"url": ctx.completion.url} if word == "wait" else {}))
    match word:
        case "complete":
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
        return self.deploy(ctx)


@activity("chaos.one", **_POLICY)
class ChaosOne(_Scripted):
    """Does what the script says."""


@activity("chaos.two", **_POLICY)
class ChaosTwo(_Scripted):
    """Does what the script says."""
