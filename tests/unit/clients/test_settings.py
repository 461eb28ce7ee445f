from __future__ import annotations

from pathlib import Path

import pytest

from cfm_core.clients.settings import DataspaceSettings
from cfm_core.errors import FatalError


def test_settings_come_from_the_environment() -> None:
    settings = DataspaceSettings.from_environ({"CFM_JWTLET_URL": "http://jwtlet/", "CFM_ISSUER_ID": "other"})
    assert settings.required("jwtlet_url") == "http://jwtlet"
    assert settings.issuer_id == "other"
    assert settings.agents_account == "system:serviceaccount:edc-v:cfm-agents"


def test_a_missing_address_is_named_as_the_variable_to_set() -> None:
    with pytest.raises(FatalError, match="CFM_CONTROLPLANE_URL is not set"):
        DataspaceSettings.from_environ({}).required("controlplane_url")


def test_the_service_token_is_read_each_time_and_trimmed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = DataspaceSettings(service_token_file=str(file))
    with pytest.raises(FatalError, match="CFM_SERVICE_TOKEN_FILE"):
        settings.service_token()
    for text in ("one", "two"):
        file.write_text(f" {text}\n")
        assert settings.service_token() == text
