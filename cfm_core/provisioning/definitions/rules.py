"""What definitions have to be like, so that orchestrations can run with them.

Source: CFM wire contract, section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from cfm_core.contracts import subjects
from cfm_core.dag import CyclicGraphError, Graph
from cfm_core.errors import FieldError, RefusedError, ValidationError
from cfm_core.json_schema import pointer_to, problem_of_schema
from cfm_core.provisioning.definitions.model import (
    LONGEST_POLICY,
    LONGEST_TEMPLATE_ID,
    LONGEST_TYPE,
    MOST_ACTIVITIES,
    MOST_IN_FLIGHT,
    MOST_IN_PERIOD,
    Activity,
    ActivityDefinition,
    OrchestrationDefinition,
    OrchestrationTemplate,
    orchestration_in,
)
from cfm_core.provisioning.definitions.wiring import Findings, findings_of
from cfm_core.query import parse


def check_activity_definition(definition: ActivityDefinition) -> None:
    """Raises ValidationError for a type that cannot be one, a policy or a schema that makes no sense; names all problems."""
    problems = []
    if not subjects.is_activity_type(definition.type) or len(definition.type) > LONGEST_TYPE:
        problems.append(
            FieldError(
                "/type",
                f"{definition.type!r} cannot be an activity type: letters, digits, '_', '-' and single dots between them,"
                f" at most {LONGEST_TYPE} characters, and not a subject of the managers",
            )
        )
    for name, schema in (("inputSchema", definition.input_schema), ("outputSchema", definition.output_schema)):
        if schema and (problem := problem_of_schema(schema)) is not None:
            problems.append(FieldError(f"/{name}{problem.pointer}", f"is no JSON Schema: {problem.detail}"))
    for pointer, duration in (
        ("/timeout", definition.timeout),
        ("/timeouts/scheduleToStart", definition.timeouts.schedule_to_start),
        ("/timeouts/scheduleToClose", definition.timeouts.schedule_to_close),
        ("/timeouts/heartbeat", definition.timeouts.heartbeat),
        ("/timeouts/wait", definition.timeouts.wait),
        ("/retry/backoff", definition.retry.backoff),
        ("/retry/backoffLimit", definition.retry.backoff_limit),
    ):
        if duration is not None and not timedelta(0) < duration <= LONGEST_POLICY:
            problems.append(FieldError(pointer, "must be a positive duration of at most a year"))
    problems += _contradictions(definition)
    attempts = definition.retry.max_attempts
    if attempts is not None and not 1 <= attempts <= 1000:
        problems.append(FieldError("/retry/maxAttempts", "must be between 1 and 1000"))
    for pointer, limit in (
        ("/limits/concurrency", definition.limits.concurrency),
        ("/limits/concurrencyPerTenant", definition.limits.concurrency_per_tenant),
    ):
        if limit is not None and not 1 <= limit <= MOST_IN_FLIGHT:
            problems.append(FieldError(pointer, f"must be between 1 and {MOST_IN_FLIGHT}"))
    for pointer, rate in (
        ("/limits/rate", definition.limits.rate),
        ("/limits/ratePerTenant", definition.limits.rate_per_tenant),
    ):
        if rate is not None and not 1 <= rate.count <= MOST_IN_PERIOD:
            problems.append(FieldError(f"{pointer}/count", f"must be between 1 and {MOST_IN_PERIOD}"))
        if rate is not None and not timedelta(0) < rate.per <= LONGEST_POLICY:
            problems.append(FieldError(f"{pointer}/per", "must be a positive duration of at most a year"))
    failures = definition.limits.consecutive_failures
    if failures is not None and not 0 <= failures <= MOST_IN_FLIGHT:
        problems.append(FieldError("/limits/consecutiveFailures", f"must be between 0 and {MOST_IN_FLIGHT}"))
    _refuse(problems)


def _contradictions(definition: ActivityDefinition) -> Iterator[FieldError]:
    """Timeouts that could never count beside another one."""
    timeouts = definition.timeouts
    if timeouts.heartbeat and definition.timeout and timeouts.heartbeat > definition.timeout:
        yield FieldError("/timeouts/heartbeat", "must not be longer than the timeout of the attempt")
    if (
        timeouts.schedule_to_start
        and timeouts.schedule_to_close
        and timeouts.schedule_to_start > timeouts.schedule_to_close
    ):
        yield FieldError("/timeouts/scheduleToStart", "must not be longer than scheduleToClose")


def check_template(template: OrchestrationTemplate, known: Mapping[str, ActivityDefinition]) -> list[FieldError]:
    """What is doubtful about a template whose orchestrations can all run with the activity types ``known``.

    Raises:
        ValidationError: one of them cannot; names all problems.
    """
    found = findings_of_template(template, known)
    _refuse(found.problems)
    return found.doubts


def findings_of_template(template: OrchestrationTemplate, known: Mapping[str, ActivityDefinition]) -> Findings:
    """All that is wrong with a template for certain, and what is doubtful; schemas count once a graph is in order."""
    found = Findings()
    if len(template.id) > LONGEST_TEMPLATE_ID:
        found.problems.append(FieldError("/id", f"a template's id has at most {LONGEST_TEMPLATE_ID} characters"))
    if not template.activities:
        found.problems.append(FieldError("/activities", "must name at least one orchestration type"))
    for type_, activities in template.activities.items():
        where = pointer_to("activities", type_)
        if not 1 <= len(type_) <= LONGEST_TYPE:
            found.problems.append(
                FieldError(where, f"an orchestration type has between 1 and {LONGEST_TYPE} characters")
            )
        if not 1 <= len(activities) <= MOST_ACTIVITIES:
            found.problems.append(FieldError(where, f"must have between 1 and {MOST_ACTIVITIES} activities"))
        if of_graph := list(_problems_of_graph(where, activities, known)):
            found.problems += of_graph
        else:
            of_schemas = findings_of(type_, activities, known)
            found.problems += of_schemas.problems
            found.doubts += of_schemas.doubts
        found.doubts += _doubts_of_calls(where, activities, template)
    return found


def check_replacement(
    before: ActivityDefinition,
    after: ActivityDefinition,
    users: Iterable[OrchestrationDefinition],
    known: Mapping[str, ActivityDefinition],
) -> None:
    """Look at the orchestrations ``users`` again, whose activity type ``before`` becomes ``after``.

    Raises:
        RefusedError: one of them would not get what it needs any more; names all problems.
    """
    problems = []
    for user in users:
        was, would_be = (
            findings_of(user.type, user.activities, {**known, after.type: one}).problems for one in (before, after)
        )
        for one in would_be:
            if one not in was:
                activity = user.activities[
                    int(one.pointer.removeprefix(pointer_to("activities", user.type)).split("/")[1])
                ]
                problems.append(
                    FieldError(
                        "/inputSchema" if activity.type == after.type else "/outputSchema",
                        f"{one.detail} (activity {activity.id!r} of {user.type!r} in template {user.template_ref!r})",
                    )
                )
    if problems:
        raise RefusedError(
            f"activity type {after.type!r} cannot become that, active definitions would not get what they need: "
            + "; ".join(f"{one.pointer}: {one.detail}" for one in problems),
            problems,
        )


def _refuse(problems: Sequence[FieldError]) -> None:
    if problems:
        raise ValidationError(
            "Invalid payload: " + "; ".join(f"{one.pointer}: {one.detail}" for one in problems), problems
        )


def _doubts_of_calls(
    where: str, activities: Sequence[Activity], template: OrchestrationTemplate
) -> Iterator[FieldError]:
    for index, activity in enumerate(activities):
        for name, type_ in (("type", activity.type), ("compensation", activity.compensation)):
            if (called := orchestration_in(type_)) and called not in template.activities:
                detail = f"the orchestration type {called!r} is not in this template: it has to be in force by then"
                yield FieldError(f"{where}/{index}/{name}", detail)


def _problems_of_graph(
    where: str, activities: Sequence[Activity], known: Mapping[str, ActivityDefinition]
) -> Iterator[FieldError]:
    ids = {activity.id for activity in activities}
    seen: set[str] = set()
    for index, activity in enumerate(activities):
        here = f"{where}/{index}"
        if not activity.id:
            yield FieldError(f"{here}/id", "must not be empty")
        elif activity.id in seen:
            yield FieldError(f"{here}/id", f"{activity.id!r} is there twice")
        seen.add(activity.id)
        for name, wanted in (("type", activity.type), ("compensation", activity.compensation)):
            if wanted not in known and not orchestration_in(wanted) and (wanted or name == "type"):
                yield FieldError(f"{here}/{name}", f"there is no activity type {wanted!r}")
        try:
            if activity.condition:
                parse(activity.condition)
        except ValidationError as error:
            yield FieldError(f"{here}/condition", f"is no predicate: {'; '.join(one.detail for one in error.errors)}")
        for parent in activity.depends_on:
            if parent not in ids:
                yield FieldError(f"{here}/dependsOn", f"there is no activity {parent!r}")
    try:
        Graph({one.id: [parent for parent in one.depends_on if parent in ids] for one in activities})
    except CyclicGraphError as error:
        yield FieldError(where, f"the activities depend on each other in a circle: {error}")
