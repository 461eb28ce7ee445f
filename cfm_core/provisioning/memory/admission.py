"""Which activities are sent, and in which order; see migration 0009."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from cfm_core.contracts.activity import OutcomeKind
from cfm_core.contracts.reply import OutboxRow
from cfm_core.provisioning.definitions.model import Rate
from cfm_core.provisioning.engine.model import CONSECUTIVE_FAILURES, FIRST_CLOSING, LONGEST_CLOSING, ActivityState
from cfm_core.provisioning.memory.announcing import announce_dispatches, dispatch
from cfm_core.provisioning.memory.runs import Admitted, Gate, Move, Run, Runs, Slot

_MOST_ADMITTED = 1000


def send(runs: Runs, run: Run, place: int, now: datetime, crossed: set[str]) -> list[tuple[Run, int]]:
    """Dispatches an activity that could be sent, or holds it back where its run is paused, or queues it."""
    node = run.nodes[place]
    if not run.paused and not runs.is_gated(node):
        dispatch(runs, node, now)
        return [(run, place)]
    node.state, node.due_at = ActivityState.READY, node.close_by
    enqueue(runs, run, place, now, crossed)
    return []


def release(runs: Runs, run: Run, now: datetime) -> list[OutboxRow]:
    """Sends what is READY of a run, or queues it, as ``provision_manager.release`` does."""
    crossed: set[str] = set()
    ready = [place for place, node in run.nodes.items() if node.state is ActivityState.READY]
    rows = announce_dispatches(runs, [one for place in ready for one in send(runs, run, place, now, crossed)])
    return rows + admit(runs, crossed)


def enqueue(runs: Runs, run: Run, place: int, now: datetime, crossed: set[str]) -> None:
    key, type_ = (run.manifest.id, place), run.nodes[place].type
    if not run.paused and key not in runs.admission:
        runs.admission[key] = Slot(type_, run.tenant_id, now)
        crossed.add(type_)


def count_in_flight(runs: Runs, activity_type: str) -> None:
    """Counts what is with agents of a type that has limits from now on."""
    for run in runs.runs.values():
        for place, node in run.nodes.items():
            if (
                node.type == activity_type
                and not node.compiled.calls
                and node.state is ActivityState.DISPATCHED
                and node.dispatched_at is not None
            ):
                slot = Slot(node.type, run.tenant_id, node.dispatched_at, in_flight=True)
                runs.admission.setdefault((run.manifest.id, place), slot)


def leave(runs: Runs, run: Run, place: int) -> Slot | None:
    return runs.admission.pop((run.manifest.id, place), None)


def leave_queue(runs: Runs, run: Run) -> None:
    """Takes what is not in flight of a run out of the queues."""
    for place in run.nodes:
        slot = runs.admission.get((run.manifest.id, place))
        if slot is not None and not slot.in_flight:
            leave(runs, run, place)


def admit(runs: Runs, types: Iterable[str]) -> list[OutboxRow]:
    """See ``provision_manager.admit``."""
    now = runs.clock()
    chosen = [key for type_ in sorted(types) for key in _choose(runs, type_, now)]
    for id_, place in chosen:
        runs.admission[id_, place].in_flight = True
        dispatch(runs, runs.runs[id_].nodes[place], now)
    return announce_dispatches(runs, [(runs.runs[id_], place) for id_, place in chosen])


def _choose(runs: Runs, type_: str, now: datetime) -> list[tuple[str, int]]:
    """See ``provision_manager.choose``."""
    limits, gate = runs.limits(type_), runs.gates.get(type_, Gate())
    if gate.paused or (gate.probe_at is not None and gate.probe_at > now):
        return []
    slots = {key: slot for key, slot in runs.admission.items() if slot.type == type_}
    busy = Counter(slot.tenant_id for slot in slots.values() if slot.in_flight)
    sent = [one for one in runs.admitted if one.type == type_]
    room = min(
        _MOST_ADMITTED,
        _left(limits.concurrency, busy.total()),
        _left(None if gate.probe_at is None else 1, busy.total()),
        _left_of_rate(limits.rate, sent, now),
    )
    last = {one.tenant_id: one.at for one in sent}
    queues: dict[str, list[tuple[datetime, str, int]]] = {}
    for (id_, place), slot in slots.items():
        if not slot.in_flight:
            queues.setdefault(slot.tenant_id, []).append((slot.ready_at, id_, place))
    turns = []
    for tenant, queue in queues.items():
        of_tenant = [one for one in sent if one.tenant_id == tenant]
        most = min(
            _left(limits.concurrency_per_tenant, busy[tenant]), _left_of_rate(limits.rate_per_tenant, of_tenant, now)
        )
        for turn, (ready_at, id_, place) in enumerate(sorted(queue)[: max(0, most)], busy[tenant]):
            turns.append((turn, max(ready_at, last.get(tenant, ready_at)), ready_at, id_, place))
    chosen = sorted((id_, place) for *_, id_, place in sorted(turns)[: max(0, room)])
    runs.admitted += [Admitted(type_, slots[key].tenant_id, now) for key in chosen]
    return chosen


def _left(limit: int | None, taken: int) -> int:
    return _MOST_ADMITTED if limit is None else limit - taken


def _left_of_rate(rate: Rate | None, sent: Iterable[Admitted], now: datetime) -> int:
    return _MOST_ADMITTED if rate is None else rate.count - sum(one.at > now - rate.per for one in sent)


def rate_opens_at(runs: Runs, type_: str, tenant: str | None, now: datetime) -> datetime | None:
    """See ``provision_manager.rate_opens_at``."""
    limits = runs.limits(type_)
    sent = [one for one in runs.admitted if one.type == type_]
    of_tenant = [one for one in sent if one.tenant_id == tenant]
    opens = [_opens_at(limits.rate, sent), _opens_at(limits.rate_per_tenant, of_tenant)]
    return max((at for at in opens if at is not None and at > now), default=None)


def _opens_at(rate: Rate | None, sent: Sequence[Admitted]) -> datetime | None:
    return None if rate is None or len(sent) < rate.count else sent[-rate.count].at + rate.per


def count_failures(runs: Runs, moves: Sequence[Move], now: datetime) -> set[str]:
    """See ``provision_manager.count_failures``; gives the types whose gates have opened."""
    told: dict[str, list[Move]] = {}
    for move in moves:
        calls = move.run.nodes[move.ord].compiled.calls
        if move.kind in (OutcomeKind.COMPLETE, OutcomeKind.RETRY) and not calls:
            told.setdefault(move.run.nodes[move.ord].type, []).append(move)
    opened = set()
    for type_, of_type in told.items():
        gate = runs.gates.get(type_)
        if any(move.kind == OutcomeKind.COMPLETE for move in of_type):
            if gate is not None and gate.failures:
                gate.failures, gate.closings, gate.probe_at = 0, 0, None
                opened.add(type_)
            continue
        gate = runs.gates.setdefault(type_, Gate())
        gate.failures += sum(move.failed for move in of_type)
        limit = runs.limits(type_).consecutive_failures
        most = CONSECUTIVE_FAILURES if limit is None else limit
        if most and gate.failures >= most and (gate.probe_at is None or gate.probe_at <= now):
            gate.probe_at = now + min(LONGEST_CLOSING, FIRST_CLOSING * 2 ** min(gate.closings, 5))
            gate.closings += 1
    return opened
