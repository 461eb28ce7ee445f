"""``cfm apply``: which document goes where, and what is none. What it does on a stack is in ``tests/e2e/test_cli_stack.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
from cfm_core.dag import Graph
from local import seed
from local.applying import apply
from local.documents import places_of


def test_activity_types_are_put_before_the_templates_that_use_them() -> None:
    template = {"id": "a/b", "activities": {}}
    assert list(places_of([template, {"type": "x.y"}])) == [
        ("/activity-definitions/x.y", {"type": "x.y"}),
        ("/orchestration-definitions/a%2Fb", template),
    ]


def test_the_standard_orchestration_has_a_definition_for_each_of_its_activities_and_one_template() -> None:
    used = {one["type"] for activities in seed.ORCHESTRATION_TEMPLATE["activities"].values() for one in activities}
    assert used == {one["type"] for one in seed.ACTIVITY_DEFINITIONS}
    assert [path for path, _ in places_of(seed.STANDARD)][-1] == "/orchestration-definitions/standard"


def test_the_standard_disposal_undoes_all_and_in_an_order_in_which_nothing_lacks_what_it_needs() -> None:
    deploy, dispose = (seed.ORCHESTRATION_TEMPLATE["activities"][type_] for type_ in (DEPLOY, DISPOSE))
    assert sorted(one["type"] for one in deploy) == sorted(one["type"] for one in dispose)
    type_of = {one["id"]: one["type"] for one in dispose}
    before: dict[str, set[str]] = {}
    for id_ in Graph({one["id"]: one.get("dependsOn", []) for one in dispose}).topological_order():
        (one,) = (one for one in dispose if one["id"] == id_)
        parents = {type_of[parent] for parent in one.get("dependsOn", [])}
        before[one["type"]] = parents.union(*(before[parent] for parent in parents))
    # Credentials are revoked before their holder goes, and before the participant does whom they were issued to.
    assert "onboarding-activity" in before["registration-activity"] & before["identityhub-activity"]
    # While there are keys, whoever follows them lets Siglet sign with them.
    assert "identityhub-activity" in before["siglet-activity"]
    # A data plane is registered, and its keys are configured, at a participant context that is still there.
    assert "siglet-activity" in before["edcv-activity"]
    # Without a mapping nobody gets a token.
    assert before["jwtlet-activity"] == set(type_of.values()) - {"jwtlet-activity"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"activities": {}}, 'a template needs an "id"'),
        ({"tipe": "x"}, 'neither "activities" nor a "type"'),
        ([{"type": "x"}, 5], "a definition is an object, not 5"),
    ],
)
def test_a_document_that_cannot_be_put_anywhere_is_told_before_anything_is_put(
    tmp_path: Path, content: Any, words: str
) -> None:
    file = tmp_path / "f.json"
    file.write_text(json.dumps(content))
    # Nothing runs in this directory: had anything been put, it would say so.
    result = CliRunner().invoke(apply, [str(file), "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{file}: " in result.output
    assert words in result.output
