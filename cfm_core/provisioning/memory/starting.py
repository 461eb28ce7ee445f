"""How runs begin: see ``provision_manager.start_orchestrations``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from cfm_core.contracts import subjects
from cfm_core.contracts.orchestration import OrchestrationManifest, compensation_id
from cfm_core.contracts.reply import OutboxRow
from cfm_core.provisioning.engine.events import response_to
from cfm_core.provisioning.engine.model import OrchestrationState, unknown_type_detail
from cfm_core.provisioning.engine.service import NO_TRACES
from cfm_core.provisioning.memory.admission import admit, send
from cfm_core.provisioning.memory.advancing import skip, unlock
from cfm_core.provisioning.memory.announcing import (
    announce_dispatches,
    announce_endings,
    become_ready,
    compensated_by,
    settle_compensated,
)
from cfm_core.provisioning.memory.runs import Defined, Run, Runs, nodes_of
from cfm_core.trace import NONE, Context


def start(
    runs: Runs, manifests: Iterable[OrchestrationManifest], traces: Mapping[str, Context] = NO_TRACES
) -> tuple[list[OutboxRow], set[str]]:
    """See ``engine.starting.start``."""
    wanted = list(manifests)
    rows = start_orchestrations(runs, wanted, traces)
    return rows, {manifest.id for manifest in wanted if manifest.id in runs.runs}


def start_orchestrations(
    runs: Runs, manifests: Iterable[OrchestrationManifest], traces: Mapping[str, Context]
) -> list[OutboxRow]:
    now = runs.clock()
    fresh: dict[str, Run] = {}
    for manifest in manifests:
        defined = definition_for(runs, manifest)
        if manifest.id not in runs.runs and manifest.id not in fresh and defined is not None:
            nodes = nodes_of(dict(enumerate(defined.made.activities)))
            fresh[manifest.id] = Run(
                *(manifest, defined.definition, defined.made, {0: nodes}, now, now),
                tenant_id=manifest.tenant_id,
                belongs_to=traces.get(manifest.id, NONE),
            )
    return begin(runs, fresh.values(), now)


def begin(runs: Runs, fresh: Iterable[Run], now: datetime) -> list[OutboxRow]:
    """Let runs that nobody knows yet begin."""
    sent: list[tuple[Run, int]] = []
    crossed: set[str] = set()
    ended: list[Run] = []
    for run in fresh:
        runs.runs[run.manifest.id] = run
        roots = [place for place, node in run.nodes.items() if node.deps_left == 0]
        skipped = [place for place in roots if skip(runs, run, place, now)]
        for place in roots:
            if place not in skipped:
                become_ready(runs, run.nodes[place], now)
                sent += send(runs, run, place, now, crossed)
        sent += unlock(runs, run, skipped, now, crossed, open=True)
        if skipped:
            run.enter(OrchestrationState.RUNNING if run.remaining else OrchestrationState.COMPLETED, now)
        if run.remaining == 0:
            ended.append(run)
        failed = compensated_by(runs, run.manifest.id)
        if failed is not None:
            failed.resend_at = None
    return announce_dispatches(runs, sent) + admit(runs, crossed) + announce_endings(runs, ended)


def definition_for(runs: Runs, manifest: OrchestrationManifest) -> Defined | None:
    """What undoes a run does so as that run's own template says, if it does."""
    if (undone := compensated_by(runs, manifest.id)) is not None:
        own = undone.definition.template_ref
        for one in runs.in_force(manifest.orchestration_type):
            if one.definition.template_ref == own:
                return one
    return runs.active(manifest.orchestration_type, manifest.template_ref)


def answer_others(
    runs: Runs, manifests: Iterable[OrchestrationManifest], traces: Mapping[str, Context]
) -> list[OutboxRow]:
    """Answers manifests that have started nothing: ended runs and what has undone them again, unknown types with a failure."""
    ended, undone, refused = [], [], []
    for manifest in manifests:
        run, undoing = runs.runs.get(manifest.id), runs.runs.get(compensation_id(manifest.id))
        if undoing is not None and undoing.state is not OrchestrationState.RUNNING:
            ended.append(undoing)
        if run is None:
            detail = unknown_type_detail(manifest.orchestration_type, manifest.template_ref)
            belongs_to = traces.get(manifest.id, NONE)
            refused.append(response_to(manifest, belongs_to, success=False, error_detail=detail, properties={}))
            settle_compensated(runs, manifest.id, OrchestrationState.COMPENSATION_FAILED)
        elif run.state is not OrchestrationState.RUNNING:
            ended.append(run)
            if run.is_undone and not run.goes_on:
                undone.append(run)
    return announce_endings(runs, ended, undone) + runs.put(subjects.RESPONSES, refused)
