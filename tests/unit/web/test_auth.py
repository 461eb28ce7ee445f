from __future__ import annotations

import pytest

from cfm_core.errors import ForbiddenError
from cfm_core.web.auth import ALL_SCOPES, TM_READ, TM_WRITE, Anybody, Principal


def test_writing_does_not_imply_reading() -> None:
    principal = Principal("ann", frozenset({TM_WRITE}))
    principal.require(TM_WRITE)
    with pytest.raises(ForbiddenError, match=TM_READ) as caught:
        principal.require(TM_READ)
    assert caught.value.scope == TM_READ


def test_anybody_may_do_everything() -> None:
    for scope in (*ALL_SCOPES, "anything:else"):
        Anybody().authenticate(None).require(scope)


def test_whoever_is_named_alike_by_another_issuer_is_another_principal() -> None:
    assert Principal("ann", frozenset(), "https://a") != Principal("ann", frozenset(), "https://b")


def test_what_a_token_says_besides_is_neither_shown_nor_changed() -> None:
    principal = Principal("ann", frozenset(), claims={"email": "ann@example.com"})
    assert "ann@" not in repr(principal)
    with pytest.raises(TypeError):
        Principal("ann", None).claims["role"] = "x"  # type: ignore[index]
