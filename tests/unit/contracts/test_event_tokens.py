"""Which tokens open which functions, and how a key is changed while events go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cfm_core.contracts.event_tokens import Doorkeeper, authorizations, derived, dump, key_in, load
from cfm_core.errors import FatalError, RecoverableError

OLD, NEW = "the-key-until-now", "the-key-from-now-on"
FUNCTION, OTHER = "start_orchestrations", "keep_dead_letters"


def bearer(key: str, function: str = FUNCTION) -> str:
    return f"Bearer {derived(key, function)}"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.json"
    file.write_text(dump([OLD], [FUNCTION, OTHER]))
    return file


def test_a_token_opens_its_function_alone(tokens: Path) -> None:
    doorkeeper = Doorkeeper(str(tokens))
    assert doorkeeper.lets_in(FUNCTION, bearer(OLD, FUNCTION))
    assert doorkeeper.lets_in(OTHER, bearer(OLD, OTHER))
    assert not doorkeeper.lets_in(OTHER, bearer(OLD, FUNCTION))
    assert not doorkeeper.lets_in("a_function_without_tokens", bearer(OLD, "a_function_without_tokens"))


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        derived(OLD, FUNCTION),
        f"Basic {derived(OLD, FUNCTION)}",
        f"Bearer {OLD}",
        "Bearer schön",
        bearer(OLD)[:-1],
        bearer(OLD) + " ",
        bearer(OLD).lower(),
        bearer(NEW),
    ],
)
def test_nothing_else_opens_it(tokens: Path, authorization: str) -> None:
    assert not Doorkeeper(str(tokens)).lets_in(FUNCTION, authorization)


def test_no_token_tells_another_or_the_key() -> None:
    assert len({derived(OLD, FUNCTION), derived(OLD, OTHER), derived(NEW, FUNCTION), OLD}) == 4


def test_a_key_is_changed_without_a_moment_in_which_events_are_refused(tokens: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(OLD)
    doorkeeper, shown = Doorkeeper(str(tokens)), authorizations(str(key_file), "")
    assert doorkeeper.lets_in(FUNCTION, shown(FUNCTION))
    tokens.write_text(dump([NEW, OLD], [FUNCTION]))
    assert doorkeeper.lets_in(FUNCTION, shown(FUNCTION))
    key_file.write_text(f"{NEW}\n")
    assert shown(FUNCTION) == bearer(NEW)
    assert doorkeeper.lets_in(FUNCTION, shown(FUNCTION))
    assert doorkeeper.lets_in(FUNCTION, bearer(OLD))
    tokens.write_text(dump([NEW], [FUNCTION]))
    assert doorkeeper.lets_in(FUNCTION, shown(FUNCTION))
    assert not doorkeeper.lets_in(FUNCTION, bearer(OLD))


def test_a_file_that_another_takes_the_place_of_is_read_again_though_it_looks_alike(
    tokens: Path, tmp_path: Path
) -> None:
    """As a mounted secret is replaced: a link to another file, of the same size, and perhaps of the same time."""
    doorkeeper = Doorkeeper(str(tokens))
    assert doorkeeper.lets_in(FUNCTION, bearer(OLD))
    replacement = tmp_path / "replacement"
    replacement.write_text(dump([NEW], [FUNCTION, OTHER]))
    before = tokens.stat()
    os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert replacement.stat().st_size == before.st_size
    replacement.rename(tokens)
    assert doorkeeper.lets_in(FUNCTION, bearer(NEW))
    assert not doorkeeper.lets_in(FUNCTION, bearer(OLD))


def test_a_trigger_with_tokens_instead_of_a_key_calls_just_those_functions(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(dump([NEW, OLD], [FUNCTION]))
    shown = authorizations("", str(file))
    assert shown(FUNCTION) == bearer(NEW)
    assert shown(OTHER) == ""


def test_a_process_of_one_function_may_be_told_its_token_without_a_file(tokens: Path) -> None:
    assert Doorkeeper("", derived(OLD, FUNCTION)).lets_in(FUNCTION, bearer(OLD))
    assert not Doorkeeper("", derived(OLD, FUNCTION)).lets_in(FUNCTION, bearer(OLD, OTHER))
    both = Doorkeeper(str(tokens), derived(NEW, FUNCTION))
    assert both.lets_in(FUNCTION, bearer(OLD))
    assert both.lets_in(FUNCTION, bearer(NEW))
    assert not both.lets_in(FUNCTION, "")


def test_without_a_file_everybody_is_let_in_and_nothing_is_shown() -> None:
    assert Doorkeeper("").lets_in(FUNCTION, "")
    assert authorizations("", "")(FUNCTION) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"secret-secret-secret"',
        '{"f": "secret-secret-secret"}',
        '{"f": []}',
        '{"f": [5]}',
        '{"f": ["short-secret"]}',
        '{"f": ["secret with spaces in it"]}',
        '{"f": ["secret-secret-secrét"]}',
    ],
)
def test_a_file_that_is_none_says_so_without_quoting(tmp_path: Path, text: str) -> None:
    with pytest.raises(FatalError) as refused:
        load(text)
    assert "secret" not in str(refused.value)
    file = tmp_path / "tokens.json"
    file.write_text(text)
    with pytest.raises(RecoverableError, match=r"tokens\.json is not usable") as told:
        Doorkeeper(str(file)).lets_in(FUNCTION, "")
    assert "secret" not in str(told.value)


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    doorkeeper = Doorkeeper(str(file))
    with pytest.raises(RecoverableError, match=r"tokens\.json cannot be read: No such file"):
        doorkeeper.lets_in(FUNCTION, bearer(OLD))
    file.write_text(dump([OLD], [FUNCTION]))
    assert doorkeeper.lets_in(FUNCTION, bearer(OLD))


@pytest.mark.parametrize("text", ["", "\n", "short", "a key with spaces", "schöner-schlüssel"])
def test_a_key_is_long_and_of_visible_characters(text: str) -> None:
    with pytest.raises(FatalError, match="a key has at least 16 visible ASCII characters"):
        key_in(text)
