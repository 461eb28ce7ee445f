"""How runs begin: see ``provision_manager.start_orchestrations``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cfm_core.contracts import subjects
from cfm_core.contracts.orchestration import OrchestrationManifest, compensation_id
from cfm_core.contracts.reply import OutboxRow
from cfm_core.provisioning.definitions.compiled import CompiledActivity
from cfm_core.provisioning.engine.events import response_to
from cfm_core.provisioning.engine.model import OrchestrationState, unknown_type_detail
from cfm_core.provisioning.memory.admission import admit, send
from cfm_core.provisioning.memory.announcing import (
    announce_dispatches,
    announce_endings,
    compensated_by,
    settle_compensated,
)
from cfm_core.provisioning.memory.runs import Defined, Node, Run, Runs


def start(runs: Runs, manifests: Iterable[OrchestrationManifest]) -> tuple[list[OutboxRow], set[str]]:
    """See ``engine.starting.start``."""
    wanted = list(manifests)
    rows = start_orchestrations(runs, wanted)
    return rows, {manifest.id for manifest in wanted if manifest.id in runs.runs}


def start_orchestrations(runs: Runs, manifests: Iterable[OrchestrationManifest]) -> list[OutboxRow]:
    now = runs.clock()
    sent: list[tuple[Run, int]] = []
    crossed: set[str] = set()
    for manifest in manifests:
        defined = definition_for(runs, manifest)
        if manifest.id in runs.runs or defined is None:
            continue
        run = Run(manifest, defined.definition, _nodes(defined.activities), now, now)
        runs.runs[manifest.id] = run
        for place, node in enumerate(run.nodes):
            if node.deps_left == 0:
                sent += send(runs, run, place, now, crossed)
        failed = compensated_by(runs, manifest.id)
        if failed is not None:
            failed.resend_at = None
    return announce_dispatches(runs, sent) + admit(runs, crossed)


def definition_for(runs: Runs, manifest: OrchestrationManifest) -> Defined | None:
    """What undoes a run does so as that run's own template says, if it does."""
    if (undone := compensated_by(runs, manifest.id)) is not None:
        own = undone.definition.template_ref
        for one in runs.in_force(manifest.orchestration_type):
            if one.definition.template_ref == own:
                return one
    return runs.active(manifest.orchestration_type, manifest.template_ref)


def _nodes(activities: Sequence[CompiledActivity]) -> list[Node]:
    return [
        Node(
            one.id,
            one.type,
            one,
            tuple(child for child, other in enumerate(activities) if place in other.parents),
            len(one.parents),
        )
        for place, one in enumerate(activities)
    ]


def answer_others(runs: Runs, manifests: Iterable[OrchestrationManifest]) -> list[OutboxRow]:
    """Answers manifests that have started nothing: ended runs and what has undone them again, unknown types with a failure."""
    ended, refused = [], []
    for manifest in manifests:
        run, undoing = runs.runs.get(manifest.id), runs.runs.get(compensation_id(manifest.id))
        if undoing is not None and undoing.state is not OrchestrationState.RUNNING:
            ended.append(undoing)
        if run is None:
            detail = unknown_type_detail(manifest.orchestration_type, manifest.template_ref)
            refused.append(response_to(manifest, success=False, error_detail=detail, properties={}))
            settle_compensated(runs, manifest.id, OrchestrationState.COMPENSATION_FAILED)
        elif run.state is not OrchestrationState.RUNNING:
            ended.append(run)
    return announce_endings(runs, ended) + runs.put(subjects.RESPONSES, refused)
