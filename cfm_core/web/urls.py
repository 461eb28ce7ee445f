"""Addresses as the caller has to write them, through whatever proxies stand in front of us."""

from __future__ import annotations

import re
from urllib.parse import quote

import flask

_HOST = re.compile(r"([\w.-]{1,255}|\[[0-9a-fA-F:.]{2,45}\])(:[0-9]{1,5})?", re.ASCII)
_UNQUOTED = "%/:@!$&'()*+,;=~"
"""What may stand in a path as it is, an encoded character included."""
_PREFIX = re.compile(r"(/[\w.~%-]+){0,16}/?", re.ASCII)


def local(request: flask.Request, path: str) -> str:
    """``path`` below the prefix that a proxy has taken off (``X-Forwarded-Prefix``).

    What no URL may hold is encoded; a path made of texts that may hold ``%`` or ``/`` has them encoded already.
    """
    prefix = _first(request, "HTTP_X_FORWARDED_PREFIX")
    return (prefix.rstrip("/") if _PREFIX.fullmatch(prefix) else "") + quote(path, safe=_UNQUOTED)


def absolute(request: flask.Request, path: str) -> str:
    """``path`` with scheme and host, as the first proxy was asked for it (``X-Forwarded-Proto``, ``X-Forwarded-Host``).

    Without them where nobody has named a usable host: such an address is relative.
    """
    scheme = _first(request, "HTTP_X_FORWARDED_PROTO")
    scheme = scheme if scheme in {"http", "https"} else request.scheme
    for host in (_first(request, "HTTP_X_FORWARDED_HOST"), request.host):
        if _HOST.fullmatch(host):
            return f"{scheme}://{host}{local(request, path)}"
    return local(request, path)


def _first(request: flask.Request, header: str) -> str:
    value: str = request.environ.get(header, "")
    return value.split(",")[0].strip()


def path_of(request: flask.Request) -> str:
    """The request's path as it may stand in a URL."""
    return quote(request.path, safe=_UNQUOTED.replace("%", ""))
