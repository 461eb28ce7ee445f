from __future__ import annotations

from datetime import timedelta

import pytest

from cfm_core.errors import FatalError
from cfm_core.settings import Settings


def test_fields_are_read_from_variables_of_their_name() -> None:
    settings = Settings.from_environ(
        {"CFM_NATS_URL": "nats://x", "CFM_DATABASE_POOL_SIZE": "2", "CFM_REQUEST_TIMEOUT": "1.5"}
    )
    assert settings == Settings(nats_url="nats://x", database_pool_size=2, request_timeout=timedelta(seconds=1.5))


def test_authentication_is_on_unless_it_is_switched_off() -> None:
    assert Settings.from_environ({}).auth == "jwt"


def test_a_variable_that_is_no_number_is_named() -> None:
    with pytest.raises(FatalError, match="CFM_DATABASE_POOL_SIZE is 'many'"):
        Settings.from_environ({"CFM_DATABASE_POOL_SIZE": "many"})
