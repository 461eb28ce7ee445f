"""The engine: what advances orchestrations. Every step takes a batch and bears any repetition of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from cfm_core.contracts.activity import ActivityOutcome, ActivityTypeAnnouncement, UncheckedDispatch
from cfm_core.contracts.orchestration import OrchestrationManifest
from cfm_core.provisioning.engine.model import Progress
from cfm_core.trace import Context

NO_TRACES: Mapping[str, Context] = MappingProxyType({})


class Engine(Protocol):
    """Each call is one transaction. Its rows in the outbox are leased to whoever called, who hands them on.

    Raises:
        RecoverableError: the store cannot answer now; whatever part of the batch took effect bears the repetition.
    """

    def start(self, manifests: Sequence[OrchestrationManifest], traces: Mapping[str, Context] = NO_TRACES) -> Progress:
        """Start an orchestration for each manifest and dispatch the activities that depend on nothing.

        A manifest that is known starts nothing; if its orchestration has ended, the response is given again. An
        orchestration type that nobody has defined is answered with a failure.

        Args:
            traces: by the ids of manifests, what they belong to. A new orchestration remembers it, and all that follows from it
                belongs to it.
        """
        ...

    def record(self, outcomes: Sequence[ActivityOutcome], traces: Mapping[str, Context] = NO_TRACES) -> Progress:
        """Take in how dispatches ended: complete, unlock and dispatch, retry, fail, end orchestrations.

        An outcome whose token is not that of the activity's last dispatch, or that is heard for the second time, is noted in
        the history and changes nothing else. What an activity has recorded must fit the output schema of its type; if it does
        not, the activity has failed.

        Args:
            traces: by the outcomes' tokens, what they belong to, for the dead letter of one that cannot be taken in.
        """
        ...

    def check_inputs(
        self, dispatches: Mapping[str, UncheckedDispatch], traces: Mapping[str, Context] = NO_TRACES
    ) -> Progress:
        """Hand on what agents can be given; what does not fit its schema fails its activity, and no agent gets it.

        Args:
            dispatches: by the ids of their events, which what is handed on has again.
            traces: by the same, what they belong to.
        """
        ...

    def sweep(self, most: int = 1000) -> Progress:
        """Take care of up to ``most`` activities that are overdue: dispatch, dispatch again, or time out."""
        ...

    def register_types(self, announcements: Sequence[ActivityTypeAnnouncement]) -> Progress:
        """Take over the defaults that agents announce for their activity types; the last word on a type counts."""
        ...
