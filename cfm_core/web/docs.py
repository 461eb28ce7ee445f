"""The pages for people: Swagger UI over the OpenAPI document, and what the types of problems mean. They hold no data."""

from __future__ import annotations

import html
from importlib.resources import files

import flask

from cfm_core.web import urls
from cfm_core.web.problems import Problem

HTML = "text/html; charset=utf-8"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FOR_A_DAY = "public, max-age=86400"

_BUNDLED = {
    "favicon-32x32.png": "image/png",
    "index.css": "text/css; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
}
"""The files of Swagger UI that the page needs."""

_START = "start.js"
_START_TEXT = """\
"use strict";
const address = new URL("../openapi.json", document.currentScript.src);
window.addEventListener("load", () => {
  SwaggerUIBundle({
    url: address.href, dom_id: "#swagger-ui", deepLinking: true, displayOperationId: true, docExpansion: "none",
    filter: true, persistAuthorization: false, validatorUrl: null,
  });
});
"""

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Connector Fabric Manager</title>
<link rel="icon" type="image/png" href="{base}/favicon-32x32.png">
<link rel="stylesheet" href="{base}/index.css">
<link rel="stylesheet" href="{base}/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="{base}/swagger-ui-bundle.js"></script>
<script src="{base}/start.js"></script>
</html>
"""

_PROBLEM_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<h1>{status} {title}</h1>
<p>{meaning}</p>
<h2>What to do</h2>
<p>{remedy}</p>
</html>
"""


def page(request: flask.Request, path: str) -> flask.Response:
    """The page that shows the API; its files are below ``path``."""
    return _answer(_PAGE.format(base=html.escape(urls.local(request, path))), HTML)


def file(name: str) -> flask.Response | None:
    """One file of the page; None where it has no such file."""
    if name == _START:
        return _answer(_START_TEXT, "text/javascript; charset=utf-8", _FOR_A_DAY)
    if name not in _BUNDLED:
        return None
    return _answer(files("flask_swagger_ui").joinpath("dist", name).read_bytes(), _BUNDLED[name], _FOR_A_DAY)


def problem_page(problem: Problem) -> flask.Response:
    """The page about one kind of problem."""
    texts = {name: html.escape(getattr(problem, name)) for name in ("title", "meaning", "remedy")}
    return _answer(_PROBLEM_PAGE.format(status=problem.status, **texts), HTML)


def _answer(content: str | bytes, media: str, caching: str = "no-cache") -> flask.Response:
    headers = {"Cache-Control": caching, "Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return flask.Response(content, 200, headers, content_type=media)
