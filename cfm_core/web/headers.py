"""What every answer says to browsers: take it for what it is called, run nothing of it, show it in no frame."""

from __future__ import annotations

from werkzeug.datastructures import Headers

_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""For whatever does not bring a policy of its own, as pages for people do."""


def protect(headers: Headers, caching: str) -> None:
    """Add what is missing.

    Args:
        caching: how the answer may be kept, unless it says so itself.
    """
    headers.add("X-Content-Type-Options", "nosniff")
    # Whatever answers in front of us names itself and its version, unless there is a name.
    headers.add("Server", "cfm")
    if "Cache-Control" not in headers:
        headers.add("Cache-Control", caching)
    if "Content-Security-Policy" not in headers:
        headers.add("Content-Security-Policy", _POLICY)
