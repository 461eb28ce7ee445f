from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from cfm_core.errors import FatalError
from cfm_core.settings import Settings, told


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


SECRETS = {
    "CFM_DATABASE_URL": "postgresql://cfm:canary@db.example:5432/cfm",
    "CFM_NATS_URL": "nats://canary@nats.example:4222",
    "CFM_EVENT_TOKEN": "canary",
    "CFM_COMPLETION_KEY": "canary",
}


def test_secrets_are_in_no_text_of_settings() -> None:
    settings = Settings.from_environ(SECRETS)
    assert "canary" not in f"{settings} {settings!r} {told(SECRETS)}"
    assert settings.event_token == "canary"


def test_settings_are_told_with_their_origins(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("canary\n")
    environ = {
        "CFM_DATABASE_URL": SECRETS["CFM_DATABASE_URL"],
        "CFM_COMPLETION_KEY_FILE": str(file),
        "CFM_REQUEST_TIMEOUT": "2.5",
    }
    found = {one.variable: (one.origin, one.shown) for one in told(environ)}
    assert found["CFM_DATABASE_URL"] == ("environment", "postgresql://cfm:***@db.example:5432/cfm")
    assert found["CFM_COMPLETION_KEY"] == (str(file), "***")
    assert found["CFM_REQUEST_TIMEOUT"] == ("environment", "2.5")
    assert found["CFM_EVENT_TOKEN"] == ("default", "")
    assert found["CFM_AUTH"] == ("default", "jwt")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://u:p@ss/w@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@h/d", "postgresql://***@h/d"),
        ("postgresql://h/d?user=u&password=canary", "postgresql://h/d?user=u&password=***"),
        ("nats://u:canary@a,nats://u:canary@b", "nats://u:***@b"),
        ("not a url", "***"),
    ],
)
def test_of_addresses_all_but_the_password_is_shown(value: str, shown: str) -> None:
    (found,) = (one for one in told({"CFM_NATS_URL": value}) if one.variable == "CFM_NATS_URL")
    assert found.shown == shown


def test_a_secret_may_be_in_a_file_that_changes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("first\n")
    settings = Settings.from_environ({"CFM_COMPLETION_KEY_FILE": str(file)})
    assert settings.completion_key == "first"
    read = settings.reader("completion_key")
    assert read() == "first"
    (tmp_path / "new").write_text("second")
    (tmp_path / "new").rename(file)
    assert read() == "second"
    assert Settings(completion_key="fixed").reader("completion_key")() == "fixed"


def test_a_secret_cannot_be_in_two_places(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("canary")
    with pytest.raises(FatalError, match="CFM_EVENT_TOKEN and CFM_EVENT_TOKEN_FILE are both set") as refused:
        Settings.from_environ({"CFM_EVENT_TOKEN": "canary", "CFM_EVENT_TOKEN_FILE": str(file)})
    assert "canary" not in str(refused.value)
