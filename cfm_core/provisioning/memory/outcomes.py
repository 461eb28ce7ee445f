"""What becomes of what agents have reported, and of what is overdue."""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import datetime, timedelta

from cfm_core.contracts.activity import ActivityOutcome, OutcomeKind
from cfm_core.errors import FieldError
from cfm_core.provisioning.engine.checks import joined, output_problem
from cfm_core.provisioning.engine.model import (
    FELL_SILENT,
    MOST_UNANSWERED,
    ActivityState,
    Policy,
    no_agent_answered,
    within_reason,
)
from cfm_core.provisioning.memory.runs import Move, Node, Run, Runs, Told

_LIVE = (ActivityState.DISPATCHED, ActivityState.WAITING)
_PRECEDENCE = (OutcomeKind.COMPLETE, OutcomeKind.FATAL, OutcomeKind.RETRY, OutcomeKind.SCHEDULE, OutcomeKind.WAIT)


def heard_of(runs: Runs, outcomes: Sequence[ActivityOutcome]) -> set[int]:
    """The places of the outcomes that count: of several about one dispatch, the one that ends it."""
    heard: dict[tuple[str, int], int] = {}
    for place, outcome in enumerate(outcomes):
        key = (outcome.orchestration_id, outcome.ord)
        if _counts(runs, outcome) and (
            key not in heard or _PRECEDENCE.index(outcome.kind) < _PRECEDENCE.index(outcomes[heard[key]].kind)
        ):
            heard[key] = place
    return set(heard.values())


def decide(
    runs: Runs, outcomes: Sequence[ActivityOutcome], heard: Set[int] | None = None, held: Set[int] = frozenset()
) -> list[Move]:
    """What becomes of the outcomes that are ``heard``; those that are ``held`` are left as if nobody had spoken."""
    if heard is None:
        heard = heard_of(runs, outcomes)
    moves = []
    for place, outcome in enumerate(outcomes):
        if place not in heard:
            told = Told(
                *(outcome.orchestration_id, outcome.ord, f"fenced: {outcome.kind}", outcome.reason, runs.clock()),
                phase=outcome.phase,
            )
            runs.history.append(told)
        elif place not in held:
            moves.append(_decision(runs, runs.runs[outcome.orchestration_id], outcome))
    return moves


def wants_a_look(runs: Runs, outcome: ActivityOutcome) -> bool:
    """Whether it completes an activity with an output schema, alone or with what somebody outside has said before."""
    run = runs.runs[outcome.orchestration_id]
    node = run.nodes[outcome.ord]
    ends = node.ending if _ends(runs, run, outcome) else outcome if node.ending is None else None
    return node.compiled.output_schema is not None and ends is not None and ends.kind is OutcomeKind.COMPLETE


def recorded_problem(runs: Runs, outcome: ActivityOutcome) -> FieldError | None:
    run = runs.runs[outcome.orchestration_id]
    node = run.nodes[outcome.ord]
    schema = node.compiled.output_schema or {}
    known = {key: run.processing_data[key] for key in schema.get("required", ()) if key in run.processing_data}
    both = joined(outcome, node.ending.values, node.ending.outputs) if node.ending else outcome
    return output_problem(both, schema, known)


def _ends(runs: Runs, run: Run, outcome: ActivityOutcome) -> bool:
    """Whether what somebody outside has said before counts with an outcome.

    Not with one that is to be tried again, perhaps with its run, or was not begun, whose records may be missing.
    """
    ending = run.nodes[outcome.ord].ending
    heard = outcome.begun and outcome.kind is not OutcomeKind.RETRY
    last = _is_last(runs, run, outcome) and run.goes_on
    return ending is not None and (heard or last or ending.kind is OutcomeKind.FATAL)


def _is_last(runs: Runs, run: Run, outcome: ActivityOutcome) -> bool:
    """Whether a failure is followed by no further attempt."""
    node = run.nodes[outcome.ord]
    return outcome.kind is OutcomeKind.RETRY and node.failures + 1 >= runs.policy(node).max_attempts


def _counts(runs: Runs, outcome: ActivityOutcome) -> bool:
    run = runs.runs.get(outcome.orchestration_id)
    if run is None or outcome.phase != run.phase or outcome.ord not in run.nodes:
        return False
    node = run.nodes[outcome.ord]
    live = _LIVE[:1] if outcome.kind is OutcomeKind.WAIT else _LIVE
    return node.state in live and node.token == outcome.token


def _decision(runs: Runs, run: Run, outcome: ActivityOutcome) -> Move:
    node = run.nodes[outcome.ord]
    policy = runs.policy(node)
    name = f"activity {node.id} ({node.type})"
    failed = outcome.kind is OutcomeKind.RETRY
    exhausted = _is_last(runs, run, outcome)
    if node.ending is not None and _ends(runs, run, outcome):
        return _ended_outside(run, outcome.ord, node.ending, recorded=outcome)
    after = within_reason(outcome.after)

    def move(state: ActivityState, due_in: timedelta | None = None, reason: str = outcome.reason) -> Move:
        return Move(run, outcome.ord, state, outcome.kind, due_in, failed, reason, outcome)

    if outcome.kind is OutcomeKind.COMPLETE:
        return move(ActivityState.DONE)
    if outcome.kind is OutcomeKind.FATAL:
        return move(ActivityState.FAILED, reason=f"{name}: {outcome.reason}")
    if exhausted:
        return move(ActivityState.FAILED, reason=f"{name} failed after {node.failures + 1} attempts: {outcome.reason}")
    if not run.goes_on:
        return move(ActivityState.CANCELLED)
    if outcome.kind is OutcomeKind.WAIT:
        return move(ActivityState.WAITING, policy.wait if after is None else after)
    if outcome.kind is OutcomeKind.SCHEDULE:
        return move(ActivityState.BACKOFF, policy.backoff if after is None else after)
    return move(ActivityState.BACKOFF, _backoff(runs, policy, node) if after is None else after)


def _backoff(runs: Runs, policy: Policy, node: Node) -> timedelta:
    """See ``provision_manager.backoff``."""
    greatest = min(policy.backoff_limit.total_seconds(), policy.backoff.total_seconds() * 2.0 ** min(node.failures, 60))
    return timedelta(seconds=runs.jitter() * greatest)


def _ended_outside(run: Run, place: int, ending: ActivityOutcome, recorded: ActivityOutcome | None = None) -> Move:
    """What somebody outside has said before counts, over what the agent has recorded."""
    node = run.nodes[place]
    done = ending.kind is OutcomeKind.COMPLETE
    if recorded is not None:
        both = joined(recorded, ending.values, ending.outputs)
        ending = both.model_copy(update={"kind": ending.kind, "reason": ending.reason})
    return Move(
        *(run, place, ActivityState.DONE if done else ActivityState.FAILED, ending.kind),
        reason=ending.reason if done else f"activity {node.id} ({node.type}): {ending.reason}",
        outcome=ending,
    )


def is_overdue(node: Node, now: datetime) -> bool:
    """Whether something has to happen with it; one that is held back waits for nothing but its end."""
    due = node.close_by if node.state is ActivityState.READY else node.due_at
    return due is not None and due <= now


def overdue_move(runs: Runs, run: Run, place: int, now: datetime) -> Move:
    node = run.nodes[place]
    policy = runs.policy(node)
    name = f"activity {node.id} ({node.type})"
    kind = {ActivityState.DISPATCHED: "lease over", ActivityState.WAITING: "wait over"}.get(node.state, "")
    closes = node.close_by is not None and node.close_by <= now
    if closes:
        kind = "time over"
    silent = node.state is ActivityState.DISPATCHED and node.started_at is not None and not closes
    if silent:
        kind = "heartbeat over"
    exhausted = silent and node.failures + 1 >= policy.max_attempts
    unheard = node.state is ActivityState.DISPATCHED and not silent and node.unanswered >= MOST_UNANSWERED
    fails = closes or node.state is ActivityState.WAITING or exhausted or unheard
    if node.ending is not None and ((fails and run.goes_on) or node.ending.kind is OutcomeKind.FATAL):
        return _ended_outside(run, place, node.ending)
    if not run.goes_on:
        return Move(run, place, ActivityState.CANCELLED, kind)

    def move(state: ActivityState, reason: str, due_in: timedelta | None = None) -> Move:
        return Move(run, place, state, kind, due_in, silent, reason)

    if closes:
        return move(ActivityState.FAILED, f"{name}: schedule to close timed out")
    if node.state is ActivityState.WAITING:
        return move(ActivityState.FAILED, f"{name}: wait timed out")
    if exhausted:
        return move(ActivityState.FAILED, f"{name} failed after {node.failures + 1} attempts: {FELL_SILENT}")
    if silent:
        # An attempt that had begun has failed; one of which nobody knows was perhaps never heard of.
        return move(ActivityState.BACKOFF, FELL_SILENT, _backoff(runs, policy, node))
    if unheard:
        return move(ActivityState.FAILED, f"{name}: {no_agent_answered(node.type)}")
    if run.paused or runs.is_gated(node):
        return move(ActivityState.READY, "")
    return move(ActivityState.DISPATCHED, "", policy.start_in)
