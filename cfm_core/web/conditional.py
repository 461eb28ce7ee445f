"""Versions of entities over HTTP: entity tags, and requests that hold for one version only (RFC 9110, section 13)."""

from __future__ import annotations

import re

import flask

from cfm_core.versions import ANY, Expected

_TAG = re.compile(r'(W/)?"([^"]*)"')
_VERSION = re.compile(r"0|[1-9][0-9]{0,8}")


def tag(version: int) -> str:
    """The strong entity tag of a version, which rises with every write."""
    return f'"{version}"'


def expected(request: flask.Request) -> Expected:
    """What ``If-Match`` and ``If-None-Match`` say of the entity that is to be changed."""
    if (header := request.environ.get("HTTP_IF_MATCH")) is not None:
        if header.strip() == "*":
            return Expected(exists=True)
        # Weak tags, and what never was a version's tag, match nothing.
        tags = (text for weak, text in _TAG.findall(header) if not weak)
        return Expected(frozenset(int(text) for text in tags if _VERSION.fullmatch(text)), exists=True)
    if request.environ.get("HTTP_IF_NONE_MATCH", "").strip() == "*":
        return Expected(exists=False)
    return ANY


def is_known(request: flask.Request, version: int) -> bool:
    """Whether whoever reads has this version already."""
    header = request.environ.get("HTTP_IF_NONE_MATCH", "")
    return header.strip() == "*" or any(text == str(version) for _, text in _TAG.findall(header))
