from __future__ import annotations

import pytest

from cfm_core.store.sql import Queries


def test_a_query_is_found_by_its_name_without_its_semicolon() -> None:
    queries = Queries("cfm_core.store")
    assert "delete" in queries.names()
    assert queries["delete"].endswith("WHERE id = ANY(:ids::bigint[])")


def test_an_unknown_name_is_a_mistake_in_the_code() -> None:
    with pytest.raises(KeyError):
        Queries("cfm_core.store")["no_such_query"]
