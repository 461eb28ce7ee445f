from __future__ import annotations

from importlib import resources


def test_the_page_about_the_language_shows_the_grammar_that_is_used() -> None:
    package = resources.files("cfm_core.query")
    grammar = package.joinpath("grammar.lark").read_text(encoding="utf-8")
    assert f"```lark\n{grammar}```" in package.joinpath("README.md").read_text(encoding="utf-8")
