"""``cfm query-index``: the declared indexes of a running stack."""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

import click

from local.api import call
from local.cli import FAILED, TIMED_OUT, data_option, fail

PATH = "/api/v1alpha1/query-indexes"
_PATIENCE_SECONDS = 3600
_LOOK_SECONDS = 0.5


@click.group("query-index")
def query_index() -> None:
    """Declare which paths of tenants and participant profiles have an index for ranges and beginnings."""


@query_index.command()
@click.argument("entity", type=click.Choice(["tenants", "participant-profiles"]))
@click.argument("path")
@click.option("--kind", type=click.Choice(["number", "time", "text"]), required=True, help="What is compared there.")
@click.option("--wait", is_flag=True, help="Return when it is ready.")
@data_option
def declare(entity: str, path: str, kind: str, wait: bool, data: Path) -> None:
    """Declare PATH of ENTITY, such as properties.size, as indexed; prints the index. Writes go on while it is built."""
    index = _call(data, "POST", PATH, {"entity": entity, "path": path, "kind": kind})
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while wait and index["state"] == "building":
        if time.monotonic() > deadline:
            fail(f"the index {index['id']} is still being built", TIMED_OUT)
        time.sleep(_LOOK_SECONDS)
        index = _call(data, "GET", f"{PATH}/{index['id']}")
    click.echo(json.dumps(index))
    if index["state"] == "failed":
        sys.exit(FAILED)


@query_index.command("list")
@data_option
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def list_(data: Path, output: str) -> None:
    """Print the declared indexes."""
    indexes = _call(data, "GET", PATH)
    if output == "json":
        click.echo(json.dumps(indexes))
        return
    for index in indexes:
        told = (index["id"], index["entity"], index["path"], index["kind"], index["state"], index.get("reason", ""))
        click.echo("  ".join(told).rstrip())


@query_index.command()
@click.argument("index_id", metavar="ID")
@data_option
def drop(index_id: str, data: Path) -> None:
    """Drop the index ID; queries find the same without it."""
    _call(data, "DELETE", f"{PATH}/{urllib.parse.quote(index_id, safe='')}")


def _call(data: Path, method: str, path: str, document: Any = None) -> Any:
    _, answer = call(data, method, path, document)
    return answer
