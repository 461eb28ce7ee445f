"""The yardstick of the HTTP figures: a function that does nothing but answer."""

from __future__ import annotations

import flask


def bare(request: flask.Request) -> flask.Response:
    """Answers with a small constant document."""
    return flask.Response('{"id":"00000000-0000-0000-0000-000000000000","version":0}', content_type="application/json")
