from __future__ import annotations

from typing import Any

import pytest

from cfm_core.assembly import AssemblyError, ServiceAssembler
from cfm_core.assembly.admission import LIMITS, ORIGINS, AdmissionAssembly
from cfm_core.errors import TooManyRequestsError
from cfm_core.settings import Settings


def services(settings: Settings) -> list[Any]:
    registry = ServiceAssembler([AdmissionAssembly()], settings).ensure([LIMITS, ORIGINS])
    return [registry.resolve(key) for key in (LIMITS, ORIGINS)]


def test_limits_and_origins_are_those_of_the_settings() -> None:
    environ = {"CFM_RATE_LIMIT": "0.001", "CFM_RATE_LIMIT_BURST": "2", "CFM_CORS_ORIGINS": "https://a.example"}
    limits, origins = services(Settings.from_environ(environ))
    for _ in range(2):
        limits.subjects.take("a")
    with pytest.raises(TooManyRequestsError):
        limits.subjects.take("a")
    assert origins.allowed == {"https://a.example"}


def test_without_settings_no_client_of_a_platform_meets_a_limit_and_no_page_may_ask() -> None:
    limits, origins = services(Settings())
    for _ in range(50_000):
        limits.subjects.take("a")
    assert origins.allowed == frozenset()


@pytest.mark.parametrize(
    "settings",
    [
        Settings(rate_limit=-1),
        Settings(rate_limit=float("nan")),
        Settings(rate_limit=float("inf")),
        Settings(rate_limit_burst=0),
        Settings(stranger_rate_limit=-1),
        Settings(stranger_rate_limit_burst=0.5),
        Settings(cors_origins="*"),
    ],
)
def test_settings_that_make_no_sense_start_nothing(settings: Settings) -> None:
    with pytest.raises(AssemblyError):
        services(settings)
