"""Health, for both managers. No probe asks for the database: its failure is no reason to restart a function."""

from __future__ import annotations

from flask import Request, Response

from cfm_core.function import http_function
from cfm_core.web import answers


@http_function("GET", "/health", scope=None)
def health(request: Request) -> Response:
    """Whether the managers answer."""
    return answers.json_value({"message": "OK"})


@http_function("GET", "/livez", scope=None)
def livez(request: Request) -> Response:
    """Whether the process lives."""
    return answers.json_value({"message": "OK"})


@http_function("GET", "/readyz", scope=None)
def readyz(request: Request) -> Response:
    """Whether the process takes requests."""
    return answers.json_value({"message": "OK"})
