"""Versions of entities over HTTP: entity tags, and requests that hold for one version only (RFC 9110, section 13)."""

from __future__ import annotations

import flask

from cfm_core.versions import ANY, Expected


def tag(version: int) -> str:
    """The strong entity tag of a version, which rises with every write."""
    return f'"{version}"'


def expected(request: flask.Request) -> Expected:
    """What ``If-Match`` and ``If-None-Match`` say of the entity that is to be changed."""
    if "HTTP_IF_MATCH" in request.environ:
        if request.if_match.star_tag:
            return Expected(exists=True)
        # Weak tags and tags that never were a version's match nothing.
        numbers = (int(tag) for tag in request.if_match.as_set() if tag.isascii() and tag.isdigit() and len(tag) < 10)
        return Expected(frozenset(numbers), exists=True)
    if "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.star_tag:
        return Expected(exists=False)
    return ANY


def is_known(request: flask.Request, version: int) -> bool:
    """Whether whoever reads has this version already."""
    return "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.contains_weak(str(version))
