"""What activities get and record, held against the schemas of their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cfm_core.contracts.activity import ActivityOutcome, OutcomeKind, UncheckedDispatch
from cfm_core.errors import FieldError
from cfm_core.json_schema import problem_of

INVALID_INPUT = "invalid input"
INVALID_OUTPUT = "invalid output"
"""How the history calls such failures."""


def input_problem(dispatch: UncheckedDispatch) -> FieldError | None:
    """What is wrong with the values that the activity would get; None if nothing."""
    return problem_of(dispatch.input_schema, dispatch.values)


def joined(outcome: ActivityOutcome, values: Mapping[str, Any], outputs: Mapping[str, Any]) -> ActivityOutcome:
    """What an activity records with ``outcome`` that somebody outside has ended before: the word of these on a key counts."""
    return outcome.model_copy(
        update={"values": {**outcome.values, **values}, "outputs": {**outcome.outputs, **outputs}}
    )


def output_problem(outcome: ActivityOutcome, schema: Mapping[str, Any], known: Mapping[str, Any]) -> FieldError | None:
    """What is wrong with what a completed activity has recorded; None if nothing.

    Args:
        known: what the processing data have of the keys that the schema requires; an earlier attempt may have recorded them.
    """
    before = {key: value for key, value in known.items() if key not in outcome.deleted}
    return problem_of(schema, before | outcome.outputs | outcome.values)


def as_invalid_input(dispatch: UncheckedDispatch, problem: FieldError) -> ActivityOutcome:
    """How an activity ends that no agent gets."""
    return ActivityOutcome(
        orchestration_id=dispatch.orchestration_id,
        phase=dispatch.phase,
        ord=dispatch.ord,
        token=dispatch.token,
        kind=OutcomeKind.FATAL,
        reason=f"{INVALID_INPUT}: {_told(problem)}",
        begun=False,
    )


def as_invalid_output(outcome: ActivityOutcome, problem: FieldError) -> ActivityOutcome:
    """How an activity ends that has recorded something else than it should. It is kept: what undoes the run may need it."""
    reason = f"{INVALID_OUTPUT}: {_told(problem)}"
    return outcome.model_copy(update={"kind": OutcomeKind.FATAL, "reason": reason, "begun": False})


def _told(problem: FieldError) -> str:
    return f"{problem.pointer}: {problem.detail}" if problem.pointer else problem.detail
