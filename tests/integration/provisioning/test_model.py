"""The engine in Postgres against the model in memory: whatever happens to both, they agree, and the invariants hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from cfm_core.contracts.activity import ActivityDispatch, ActivityOutcome, OutcomeKind
from cfm_core.contracts.orchestration import DEPLOY, DISPOSE, TENANT_ID
from cfm_core.errors import ClientError
from cfm_core.provisioning.activity_types.model import ActivityType
from cfm_core.provisioning.definitions.model import (
    Activity,
    ActivityDefinition,
    ForEach,
    Limits,
    OrchestrationTemplate,
    Rate,
    RetryPolicy,
    Timeouts,
    Undo,
    UndoMode,
)
from cfm_core.provisioning.engine.model import ActivityState, Progress
from cfm_core.provisioning.operations.model import Order, Resolution
from cfm_core.provisioning.orchestrations.model import ActivityStatus, Heartbeat, Orchestration
from cfm_core.store.database import Database
from local.chaos.invariants import broken
from tests.contract.provisioning.world import (
    Driver,
    MemoryWorld,
    PostgresWorld,
    all_dispatches,
    empty,
    ending,
    manifest,
    manifests,
    responses,
)

ON_ONE_DATABASE = [HealthCheck.function_scoped_fixture]
ENDED = {"COMPLETED", "ERRORED", "CANCELLED", "COMPENSATED", "COMPENSATION_FAILED"}
NOW = datetime.now(UTC)
ORDER = Order(actor="ann", reason="why", request_id="r")
ACTS = (
    *("pause", "resume", "cancel", "stop", "retry", "retry some"),
    *("compensate", "retry activity", "resolve", "pause type", "resume type"),
)


def operated(world: PostgresWorld | MemoryWorld, act: str, id_: str, activity: str) -> str:
    """What becomes of an operator's order."""
    operations = world.operations
    types = world.activity_types
    orders: dict[str, Callable[[], Orchestration | ActivityType]] = {
        "pause": lambda: operations.pause(id_, ORDER),
        "resume": lambda: operations.resume(id_, ORDER),
        "cancel": lambda: operations.cancel(id_, ORDER),
        "stop": lambda: operations.cancel(id_, ORDER, compensate=False),
        "retry": lambda: operations.retry(id_, ORDER),
        "retry some": lambda: operations.retry(id_, ORDER, activities=[activity]),
        "compensate": lambda: operations.compensate(id_, ORDER, force=True),
        "retry activity": lambda: operations.retry_activity(id_, activity, ORDER),
        "resolve": lambda: operations.resolve_activity(id_, activity, ORDER, Resolution({activity: "by hand"})),
        "pause type": lambda: types.pause("t0", ORDER),
        "resume type": lambda: types.resume("t0", ORDER),
    }
    try:
        shown = orders[act]()
        return (
            shown.state
            if isinstance(shown, Orchestration)
            else str(
                replace(
                    shown,
                    probe_at=None,
                    counts=_sorted(shown.counts),
                    rate_opens_at=shown.rate_opens_at and NOW,
                    tenant_rates_open_at=dict.fromkeys(sorted(shown.tenant_rates_open_at), NOW),
                )
            )
        )
    except ClientError as error:
        return f"{type(error).__name__}: {error}"


def outside(driver: Driver, act: str, key: tuple[str, str], said: Any) -> str:
    """What becomes of a sign of life, or of how somebody outside ends an activity."""
    orchestrations, sent = driver.world.orchestrations, driver.sent[key]
    try:
        if act == "beat":
            orchestrations.heartbeat(*key, Heartbeat(token=sent.token, progress=said))
        else:
            more: dict[str, Any] = {"values": {key[1]: 0, "outside": said}} if said != 1 else {"error": "no"}
            orchestrations.end_activity(*key, ending(sent, **more))
    except ClientError as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def shown(one: ActivityStatus) -> tuple[Any, ...]:
    """What does not depend on the time of day."""
    return (one.id, one.state, one.unanswered, one.failures, one.progress, one.ending, one.started_at is None)


def received(one: ActivityDispatch) -> tuple[Any, ...]:
    """What an agent gets."""
    return (
        one.idempotency_key,
        one.activity_type,
        one.attempt,
        sorted(one.values.items()),
        sorted(one.outputs.items()),
    )


def _sorted(counts: Mapping[str, Mapping[ActivityState, int]]) -> dict[str, dict[ActivityState, int]]:
    return {tenant: dict(sorted(states.items())) for tenant, states in sorted(counts.items())}


NO_LIMITS = Limits()
NO_TIMEOUTS = Timeouts()
TIMEOUTS = st.builds(
    Timeouts,
    schedule_to_start=st.sampled_from([None, None, timedelta(seconds=5)]),
    schedule_to_close=st.sampled_from([None, None, timedelta(hours=1)]),
    heartbeat=st.sampled_from([None, timedelta(seconds=5)]),
    wait=st.sampled_from([None, timedelta(hours=2)]),
)
AT_ONCE = Undo()
LIMITS = st.builds(
    Limits,
    concurrency=st.sampled_from([None, None, 1, 2]),
    concurrency_per_tenant=st.sampled_from([None, None, 1]),
    rate=st.sampled_from([None, None, Rate(1, timedelta(minutes=20)), Rate(3, timedelta(minutes=20))]),
    rate_per_tenant=st.sampled_from([None, None, Rate(1, timedelta(minutes=30))]),
    consecutive_failures=st.sampled_from([None, 0, 1, 2]),
)


@st.composite
def graphs(draw: st.DrawFn, most: int = 7) -> list[Activity]:
    """Activities in an arbitrary order, each with parents among others."""
    size = draw(st.integers(1, most))
    parents = {n: draw(st.sets(st.sampled_from(range(n)))) if n else set() for n in range(size)}
    nodes = [Activity(f"a{n}", f"t{n % 2}", tuple(f"a{p}" for p in sorted(of))) for n, of in parents.items()]
    return draw(st.permutations(nodes))


CONDITIONS = ["", "", "given = true", "a0 IS NULL", "a0 > 0", "a1 = 1 OR a2 = 2", "false"]


@st.composite
def eventful(draw: st.DrawFn, most: int) -> list[Activity]:
    """The same with conditions, with what undoes them, and with some that orchestrations of their own carry out."""
    return [
        replace(
            one,
            type=draw(st.sampled_from([one.type, one.type, "orchestration:sub"])),
            condition=draw(st.sampled_from(CONDITIONS)),
            compensation=draw(st.sampled_from(["", "t0", "t1", "orchestration:sub"])),
            for_each=draw(st.sampled_from([None, None, ForEach("list", concurrency=2)])),
        )
        for one in draw(graphs(most))
    ]


SUB = [Activity("x", "t0"), Activity("y", "t1", ("x",))]


UNDOS = st.sampled_from(
    [Undo(), Undo(), Undo(mode=UndoMode.MANUAL), Undo(mode=UndoMode.AFTER, after=timedelta(hours=1))]
)


def define(
    world: PostgresWorld | MemoryWorld,
    deploy: list[Activity],
    dispose: list[Activity],
    limits: Limits = NO_LIMITS,
    undo: Undo = AT_ONCE,
    *,
    schemas: bool = False,
    timeouts: Timeouts = NO_TIMEOUTS,
) -> None:
    """Two activity types, of which ``limits`` and ``timeouts`` hold for the first; with ``schemas`` that some data do not fit."""
    retry = RetryPolicy(max_attempts=2, backoff=timedelta(seconds=1))
    gets: dict[str, Any] = {"properties": {"a0": {"maximum": 1}}} if schemas else {}
    records: dict[str, Any] = {"additionalProperties": {"maximum": 0}} if schemas else {}
    world.definitions.put_activity_definition(
        ActivityDefinition(type="t0", retry=retry, limits=limits, timeouts=timeouts, input_schema=gets)
    )
    world.definitions.put_activity_definition(ActivityDefinition(type="t1", retry=retry, output_schema=records))
    activities = {DEPLOY: deploy, "sub": SUB} | ({DISPOSE: dispose} if dispose else {})
    world.definitions.add_template(OrchestrationTemplate(id="template", activities=activities, undo=undo))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=ON_ONE_DATABASE,
)
@given(graph=graphs(), data=st.data())
def test_results_in_any_order_any_batches_and_any_number_end_in_the_same_state(
    emptied: Database, graph: list[Activity], data: st.DataObject
) -> None:
    empty(emptied)
    world = PostgresWorld(emptied)
    driver = Driver(world)
    define(world, graph, [])
    id_ = "run"
    driver.start(manifest(id_, DEPLOY, given=True))

    done: set[str] = set()
    heard: list[ActivityOutcome] = []
    ends: list[bool] = []
    while len(done) < len(graph):
        out = sorted({activity for _, activity in driver.sent} - done)
        assert all(set(activity.depends_on) <= done for activity in graph if activity.id in out), "sent too early"
        chosen = data.draw(st.lists(st.sampled_from(out), min_size=1, unique=True), label="completed")
        fresh = [driver.outcome(id_, one, values={one: 1}, outputs={one: [one]}) for one in chosen]
        again = data.draw(st.lists(st.sampled_from([*heard, *fresh]), max_size=3), label="repeated")
        batch = data.draw(st.permutations([*fresh, *again]), label="order")
        ends += [one.success for one in responses(driver.record(*batch).outbox)]
        heard += fresh
        done |= set(chosen)
        assert broken(emptied) == {}

    run = world.orchestrations.get(id_)
    assert (run.state, ends) == ("COMPLETED", [True])
    assert run.processing_data == {"given": True} | {activity.id: 1 for activity in graph}
    assert run.output_data == {activity.id: [activity.id] for activity in graph}
    assert {node.dispatches for node in world.nodes(id_).values()} == {1}
    driver.record(*heard)
    assert world.orchestrations.get(id_) == run
    assert Counter(world.history(id_))["complete"] == len(graph)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=ON_ONE_DATABASE,
)
@given(deploy=graphs(5) | eventful(5), dispose=st.one_of(st.just([]), graphs(2)), data=st.data())
def test_postgres_does_what_the_model_does(
    emptied: Database, deploy: list[Activity], dispose: list[Activity], data: st.DataObject
) -> None:
    empty(emptied)
    real, model = Driver(PostgresWorld(emptied)), Driver(MemoryWorld())
    limits = data.draw(LIMITS, label="limits")
    undo = data.draw(UNDOS, label="undo")
    schemas = data.draw(st.booleans(), label="schemas")
    timeouts = data.draw(TIMEOUTS, label="timeouts")
    for one in (real.world, model.world):
        define(one, deploy, dispose, limits, undo, schemas=schemas, timeouts=timeouts)  # type: ignore[arg-type]
    ids = ["run 1", "run 2"]
    ended: dict[str, str] = {}
    orderly = not data.draw(st.booleans(), label="operators") and undo.after is None

    def both(step: list[Progress]) -> list[Progress]:
        first, second = (
            (
                [one.model_dump() for one in sorted(responses(p.outbox), key=lambda one: one.manifest_id)],
                sorted(manifests(p.outbox), key=lambda one: one.id),
                sorted(map(received, all_dispatches(p.outbox)), key=str),
            )
            for p in step
        )
        assert first == second
        started = real.world.runs()
        assert started == model.world.runs()
        for id_ in started:
            assert (id_, real.world.nodes(id_)) == (id_, model.world.nodes(id_))
            assert (id_, real.world.state(id_)) == (id_, model.world.state(id_))
            run, its_model = real.world.orchestrations.get(id_), model.world.orchestrations.get(id_)
            assert (id_, run.version, run.paused, run.paused_above) == (
                *(id_, its_model.version, its_model.paused, its_model.paused_above),
            )
        for id_ in ids:
            assert Counter(real.world.history(id_)) == Counter(model.world.history(id_))
            state = real.world.state(id_)
            run, its_model = real.world.orchestrations.get(id_), model.world.orchestrations.get(id_)
            assert [shown(one) for one in run.graph] == [shown(one) for one in its_model.graph]
            if orderly:
                # Whoever has ended, has ended for good.
                assert ended.setdefault(id_, state) == state if state in ENDED else id_ not in ended
        assert broken(emptied) == {}
        return step

    of_tenants = [manifest(id_, DEPLOY, **{TENANT_ID: id_}, list=[1, 2, 3]) for id_ in ids]
    both([driver.start(*of_tenants) for driver in (real, model)])
    superseded: list[tuple[ActivityOutcome, ActivityOutcome]] = []
    for _ in range(data.draw(st.integers(1, 14), label="steps")):
        kinds_of_steps = ["record", "record", "record", "time", "stale", *([] if orderly else ["order", "order"])]
        kinds_of_steps += ["beat", "end", "all time", "archive"]
        match data.draw(st.sampled_from(kinds_of_steps), label="step"):
            case "order":
                act = data.draw(st.sampled_from(ACTS), label="order")
                some = real.world.runs() if act in ("pause", "resume") else [*ids, "run 1.compensate"]
                id_ = data.draw(st.sampled_from(some), label="to")
                activity = data.draw(st.sampled_from(deploy), label="of").id
                first, second = (operated(d.world, act, id_, activity) for d in (real, model))  # type: ignore[arg-type]
                assert first == second
                event(f"{act}: {first.split(':')[0]}")
                written = [driver.hear() for driver in (real, model)]
                progress = both([Progress(list(rows)) for rows in written])
            case "beat" | "end" as act:
                if not real.sent:
                    continue
                key = data.draw(st.sampled_from(sorted(real.sent)), label="of")
                said = data.draw(st.sampled_from([None, 1, {"n": 2}]), label="said")
                first, second = (outside(driver, act, key, said) for driver in (real, model))
                assert first == second
                event(f"{act}: {first.split(':')[0]}")
                progress = both([Progress(list(driver.hear())) for driver in (real, model)])
            case "record":
                if not real.sent:
                    continue
                keys = data.draw(st.lists(st.sampled_from(sorted(real.sent)), min_size=1, max_size=4), label="of")
                kinds = [data.draw(st.sampled_from(OutcomeKind)) for _ in keys]
                batches = [
                    [
                        driver.outcome(*key, kind, reason=f"{n}", values={key[1]: n}, outputs={f"{n}": key[1]})
                        for n, (key, kind) in enumerate(zip(keys, kinds, strict=True))
                    ]
                    for driver in (real, model)
                ]
                superseded += zip(*batches, strict=True)
                progress = both([real.record(*batches[0]), model.record(*batches[1])])
            case "archive":
                for driver in (real, model):
                    driver.world.archive()
                progress = both([Progress(), Progress()])
            case "time" | "all time" as much:
                for driver in (real, model):
                    if much == "time":
                        driver.world.let_time_pass()
                    else:
                        driver.world.let_all_time_pass()
                progress = both([real.sweep(), model.sweep()])
            case _:
                pair = data.draw(st.sampled_from(superseded)) if superseded else None
                progress = both([d.record(*(pair[n : n + 1] if pair else ())) for n, d in enumerate((real, model))])
        if asked := manifests(progress[0].outbox):
            event("compensated")
            both([driver.start(*asked) for driver in (real, model)])

    # From here on every agent answers well, and nobody holds anything back: everything comes to its end.
    for id_ in real.world.runs():
        for driver in (real, model):
            operated(driver.world, "resume", id_, "")  # type: ignore[arg-type]
            operated(driver.world, "resume type", id_, "")  # type: ignore[arg-type]
            driver.hear()
    for _ in range(12 * len(deploy) + 4 * len(dispose) + 4):
        if all(real.world.state(id_) in ENDED for id_ in real.world.runs()):
            break
        for driver in (real, model):
            driver.world.let_time_pass()
        progress = both([real.sweep(), model.sweep()])
        both([driver.start(*manifests(progress[0].outbox)) for driver in (real, model)])
        progress = both([d.record(*(d.outcome(*key) for key in sorted(d.sent))) for d in (real, model)])
        both([driver.start(*manifests(progress[0].outbox)) for driver in (real, model)])
    for id_ in ids:
        assert real.world.state(id_) in ENDED
        event(real.world.state(id_))
        for kind in {kind for kind in real.world.history(id_) if kind.startswith("invalid")}:
            event(kind)
        assert real.world.orchestrations.get(id_).processing_data == model.world.orchestrations.get(id_).processing_data
    assert real.sweep().outbox == []
