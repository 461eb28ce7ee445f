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


@pytest.mark.parametrize("name", ["HISTORY_DAYS", "ARCHIVE_AFTER_DAYS", "DEAD_LETTER_DAYS"])
def test_what_is_kept_is_kept_for_a_day_at_least(name: str) -> None:
    assert getattr(Settings.from_environ({f"CFM_{name}": "1"}), name.lower()) == 1
    for wrong in ("0", "-1"):
        with pytest.raises(FatalError, match=f"CFM_{name} is '{wrong}'; it must be at least 1"):
            Settings.from_environ({f"CFM_{name}": wrong})
    with pytest.raises(FatalError, match=f"CFM_{name} is 'x', which is not a number"):
        Settings.from_environ({f"CFM_{name}": "x"})


def test_archived_orchestrations_may_be_kept_for_ever() -> None:
    assert Settings.from_environ({"CFM_ARCHIVE_DAYS": "0"}).archive_days == Settings().archive_days == 0
    with pytest.raises(FatalError):
        Settings.from_environ({"CFM_ARCHIVE_DAYS": "-1"})
