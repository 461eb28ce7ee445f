"""Health, for both managers. No probe asks for the database: its failure is no reason to restart a function."""

from __future__ import annotations

from flask import Request, Response

from cfm_core.contracts.documents import Document
from cfm_core.function import http_function
from cfm_core.web import answers


class HealthDocument(Document):
    """``OK``, or no answer at all."""

    message: str = "OK"


@http_function("GET", "/health", scope=None, gives={200: HealthDocument})
def health(request: Request) -> Response:
    """Whether the managers answer."""
    return answers.json_value(HealthDocument().to_json())


@http_function("GET", "/livez", scope=None, gives={200: HealthDocument})
def livez(request: Request) -> Response:
    """Whether the process lives."""
    return answers.json_value(HealthDocument().to_json())


@http_function("GET", "/readyz", scope=None, gives={200: HealthDocument})
def readyz(request: Request) -> Response:
    """Whether the process takes requests."""
    return answers.json_value(HealthDocument().to_json())
