"""The composition root: which assemblies there are in a process, by its settings, and the services of this process.

Deployments differ here and nowhere else. What an assembly needs heavily it imports in its ``init``, so that a process
pays only for what its functions require.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.util
import threading
from collections.abc import Sequence
from typing import Any

from cfm_core.assembly import AssemblyError, ServiceAssembler, ServiceAssembly, ServiceType
from cfm_core.settings import Settings

_lock = threading.Lock()
_assembler: ServiceAssembler | None = None


def assemblies(settings: Settings) -> Sequence[ServiceAssembly]:
    """Every assembly of a deployment with these settings; none of them runs yet."""
    from cfm_core.assembly.admission import AdmissionAssembly
    from cfm_core.assembly.auth import auth_assembly
    from cfm_core.assembly.database import database_assemblies
    from cfm_core.assembly.events import DoorkeeperAssembly
    from cfm_core.assembly.http_client import HttpClientAssembly
    from cfm_core.assembly.idempotency import idempotency_assemblies
    from cfm_core.assembly.router import RouterAssembly
    from cfm_core.assembly.secrets import secrets_assembly
    from cfm_core.assembly.telemetry import TelemetryAssembly
    from cfm_core.clients.assembly import dataspace_assemblies
    from cfm_core.keys.assembly import SigningKeysAssembly
    from cfm_core.provisioning.assembly import provisioning_assemblies
    from cfm_core.reconciliation.assembly import ReconciliationAssembly
    from cfm_core.tenancy.assembly import tenancy_assemblies

    return (
        AdmissionAssembly(),
        auth_assembly(settings),
        DoorkeeperAssembly(),
        RouterAssembly(),
        *database_assemblies(settings),
        *idempotency_assemblies(settings),
        HttpClientAssembly(),
        secrets_assembly(settings),
        TelemetryAssembly(),
        *dataspace_assemblies(),
        SigningKeysAssembly(),
        ReconciliationAssembly(),
        *provisioning_assemblies(settings),
        *tenancy_assemblies(settings),
    )


def services(keys: Sequence[ServiceType[Any]]) -> list[Any]:
    """The services of this process for ``keys``; their assemblies are started at the first use.

    Raises:
        AssemblyError: there is no provider, or one failed to start; the next call tries again.
    """
    registry = _process_assembler().ensure(keys)
    return [registry.resolve(key) for key in keys]


def use(assembler: ServiceAssembler | None) -> None:
    """Take the services of this process from ``assembler``; None goes back to the settings of the environment."""
    global _assembler
    with _lock:
        _assembler = assembler


def stop() -> None:
    """Stop what runs in this process, in reverse order."""
    global _assembler
    with _lock:
        running, _assembler = _assembler, None
    if running is not None:
        running.stop()


def _process_assembler() -> ServiceAssembler:
    global _assembler
    with _lock:
        if _assembler is None:
            settings = Settings.from_environ()
            _assembler = ServiceAssembler(assemblies(settings), settings)
            # A server's worker is a process of multiprocessing, which skips atexit at its end and has hooks of its own.
            atexit.register(_stop_quietly)
            multiprocessing.util.Finalize(None, _stop_quietly, exitpriority=10)
        return _assembler


def _stop_quietly() -> None:
    with contextlib.suppress(AssemblyError):
        stop()
