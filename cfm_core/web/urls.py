"""Addresses as the caller has to write them, through whatever proxies stand in front of us."""

from __future__ import annotations

import re

import flask

_HOST = re.compile(r"[\w.:\[\]-]{1,255}", re.ASCII)
_PREFIX = re.compile(r"(/[\w.~%-]+){0,16}/?", re.ASCII)


def local(request: flask.Request, path: str) -> str:
    """``path`` below the prefix that a proxy has taken off (``X-Forwarded-Prefix``)."""
    prefix = _first(request, "HTTP_X_FORWARDED_PREFIX")
    return (prefix.rstrip("/") if _PREFIX.fullmatch(prefix) else "") + path


def absolute(request: flask.Request, path: str) -> str:
    """``path`` with scheme and host, as the first proxy was asked for it (``X-Forwarded-Proto``, ``X-Forwarded-Host``)."""
    scheme = _first(request, "HTTP_X_FORWARDED_PROTO")
    host = _first(request, "HTTP_X_FORWARDED_HOST")
    scheme = scheme if scheme in {"http", "https"} else request.scheme
    host = host if _HOST.fullmatch(host) else request.host
    return f"{scheme}://{host}{local(request, path)}"


def _first(request: flask.Request, header: str) -> str:
    value: str = request.environ.get(header, "")
    return value.split(",")[0].strip()
