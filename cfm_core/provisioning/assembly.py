"""Provides the Provision Manager: definitions, orchestrations and the engine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from cfm_core.assembly import InitContext, ServiceAssembly, ServiceType
from cfm_core.assembly.database import MAINTENANCE_DATABASE, PROVISION_MANAGER_DATABASE
from cfm_core.audit.assembly import MEMORY_AUDIT
from cfm_core.contracts.completion import CompletionKey
from cfm_core.errors import FatalError
from cfm_core.settings import Settings

if TYPE_CHECKING:
    from cfm_core.provisioning.activity_types.service import ActivityTypes
    from cfm_core.provisioning.calls.service import Calls
    from cfm_core.provisioning.dead_letters.service import DeadLetters
    from cfm_core.provisioning.definitions.service import Definitions
    from cfm_core.provisioning.engine.service import Engine
    from cfm_core.provisioning.operations.service import Operations
    from cfm_core.provisioning.orchestrations.service import Archive, History, Orchestrations
    from cfm_core.provisioning.schedules.service import Schedules
    from cfm_core.provisioning.schedules.sweep import DueStarts

DEFINITIONS: ServiceType[Definitions] = ServiceType("definitions")
ORCHESTRATIONS: ServiceType[Orchestrations] = ServiceType("orchestrations")
ACTIVITY_TYPES: ServiceType[ActivityTypes] = ServiceType("activity-types")
OPERATIONS: ServiceType[Operations] = ServiceType("operations")
HISTORY: ServiceType[History] = ServiceType("history")
"""Its days are tables, which only the role that owns them makes and drops."""
ARCHIVE: ServiceType[Archive] = ServiceType("archive")
ENGINE: ServiceType[Engine] = ServiceType("engine")
CALLS: ServiceType[Calls] = ServiceType("calls")
SCHEDULES: ServiceType[Schedules] = ServiceType("schedules")
DUE_STARTS: ServiceType[DueStarts] = ServiceType("due starts")
DEAD_LETTERS: ServiceType[DeadLetters] = ServiceType("dead letters")


_KEYS = (
    *(DEFINITIONS, ORCHESTRATIONS, OPERATIONS, ACTIVITY_TYPES, ARCHIVE, ENGINE, CALLS),
    *(SCHEDULES, DUE_STARTS, DEAD_LETTERS),
)


class PostgresProvisioningAssembly(ServiceAssembly):
    """The Provision Manager in Postgres."""

    name = "provisioning-postgres"
    provides = _KEYS
    requires = (PROVISION_MANAGER_DATABASE,)

    def init(self, context: InitContext) -> None:
        from cfm_core.provisioning.activity_types.service import ActivityTypes
        from cfm_core.provisioning.activity_types.store import PostgresActivityTypes
        from cfm_core.provisioning.calls.service import Calls
        from cfm_core.provisioning.calls.store import PostgresCalls
        from cfm_core.provisioning.dead_letters.service import DeadLetters
        from cfm_core.provisioning.dead_letters.store import PostgresDeadLetters
        from cfm_core.provisioning.definitions.store import PostgresDefinitions
        from cfm_core.provisioning.delayed_starts.store import PostgresDelayedStarts
        from cfm_core.provisioning.engine.store import PostgresEngine
        from cfm_core.provisioning.operations.service import Operations
        from cfm_core.provisioning.operations.store import PostgresOperations
        from cfm_core.provisioning.orchestrations.store import (
            PostgresArchive,
            PostgresOrchestrations,
        )
        from cfm_core.provisioning.schedules.service import Schedules
        from cfm_core.provisioning.schedules.store import PostgresSchedules
        from cfm_core.provisioning.schedules.sweep import DueStarts

        database = context.registry.resolve(PROVISION_MANAGER_DATABASE)
        context.registry.register(DEFINITIONS, PostgresDefinitions(database))
        key = CompletionKey(context.settings.completion_key, context.settings.reader("completion_key"))
        context.registry.register(ORCHESTRATIONS, PostgresOrchestrations(database, key))
        context.registry.register(OPERATIONS, Operations(PostgresOperations(database)))
        context.registry.register(ACTIVITY_TYPES, ActivityTypes(PostgresActivityTypes(database)))
        settings = context.settings
        kept = timedelta(days=settings.archive_days) if settings.archive_days else None
        context.registry.register(ARCHIVE, PostgresArchive(database, timedelta(days=settings.archive_after_days), kept))
        context.registry.register(ENGINE, PostgresEngine(database))
        context.registry.register(CALLS, Calls(PostgresCalls(database)))
        schedules = PostgresSchedules(database)
        context.registry.register(SCHEDULES, Schedules(schedules))
        context.registry.register(DUE_STARTS, DueStarts([schedules, PostgresDelayedStarts(database)]))
        context.registry.register(
            DEAD_LETTERS, DeadLetters(PostgresDeadLetters(database), timedelta(days=settings.dead_letter_days))
        )


class PostgresHistoryAssembly(ServiceAssembly):
    """What keeps the history of orchestrations in Postgres within its bounds."""

    name = "history-postgres"
    provides = (HISTORY,)
    requires = (MAINTENANCE_DATABASE,)

    def init(self, context: InitContext) -> None:
        from cfm_core.provisioning.orchestrations.store import PostgresHistory

        database = context.registry.resolve(MAINTENANCE_DATABASE)
        kept = timedelta(days=context.settings.history_days)
        context.registry.register(HISTORY, PostgresHistory(database, kept))


class MemoryProvisioningAssembly(ServiceAssembly):
    """The Provision Manager in memory; it ends with the process."""

    name = "provisioning-memory"
    provides = (*_KEYS, HISTORY)
    requires = (MEMORY_AUDIT,)

    def init(self, context: InitContext) -> None:
        from cfm_core.clock import system_clock
        from cfm_core.provisioning.activity_types.memory import MemoryActivityTypes
        from cfm_core.provisioning.activity_types.service import ActivityTypes
        from cfm_core.provisioning.calls.memory import MemoryCalls
        from cfm_core.provisioning.calls.service import Calls
        from cfm_core.provisioning.dead_letters.memory import MemoryDeadLetters
        from cfm_core.provisioning.dead_letters.service import DeadLetters
        from cfm_core.provisioning.definitions.memory import MemoryDefinitions
        from cfm_core.provisioning.delayed_starts.memory import MemoryDelayedStarts
        from cfm_core.provisioning.memory.engine import MemoryEngine
        from cfm_core.provisioning.memory.orchestrations import MemoryArchive, MemoryHistory, MemoryOrchestrations
        from cfm_core.provisioning.memory.runs import Runs
        from cfm_core.provisioning.operations.memory import MemoryOperations
        from cfm_core.provisioning.operations.service import Operations
        from cfm_core.provisioning.schedules.memory import MemorySchedules
        from cfm_core.provisioning.schedules.service import Schedules
        from cfm_core.provisioning.schedules.sweep import DueStarts

        runs = Runs(system_clock, audit=context.registry.resolve(MEMORY_AUDIT))
        context.registry.register(DEFINITIONS, MemoryDefinitions(runs))
        key = CompletionKey(context.settings.completion_key, context.settings.reader("completion_key"))
        context.registry.register(ORCHESTRATIONS, MemoryOrchestrations(runs, key))
        context.registry.register(OPERATIONS, Operations(MemoryOperations(runs)))
        context.registry.register(ACTIVITY_TYPES, ActivityTypes(MemoryActivityTypes(runs)))
        context.registry.register(HISTORY, MemoryHistory())
        context.registry.register(ARCHIVE, MemoryArchive())
        context.registry.register(ENGINE, MemoryEngine(runs))
        context.registry.register(CALLS, Calls(MemoryCalls(runs)))
        schedules = MemorySchedules(runs)
        context.registry.register(SCHEDULES, Schedules(schedules))
        context.registry.register(DUE_STARTS, DueStarts([schedules, MemoryDelayedStarts(runs)]))
        context.registry.register(
            DEAD_LETTERS, DeadLetters(MemoryDeadLetters(runs), timedelta(days=context.settings.dead_letter_days))
        )


def provisioning_assemblies(settings: Settings) -> Sequence[ServiceAssembly]:
    """The assemblies for ``CFM_STORE``.

    Raises:
        FatalError: it is neither ``postgres`` nor ``memory``.
    """
    match settings.store:
        case "postgres":
            return PostgresProvisioningAssembly(), PostgresHistoryAssembly()
        case "memory":
            return (MemoryProvisioningAssembly(),)
        case other:
            raise FatalError(f"CFM_STORE is {other!r}; it must be postgres or memory")
