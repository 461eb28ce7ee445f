"""``cfm apply``: definitions in files, put in force on a running stack."""

from __future__ import annotations

import sys
import urllib.parse
from pathlib import Path
from typing import Any

import click

from local.api import call
from local.cli import FAILED, data_option
from local.documents import documents_in, places_of

BASE = "/api/v1alpha1"


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@data_option
def apply(files: tuple[Path, ...], data: Path) -> None:
    """Put the definitions in FILE... in force, in place of those with the same type or id.

    A file holds one document or an array of them, in JSON: activity definitions, and templates with an "id" of their own,
    which are put after them. Applied again, nothing changes. The project's own is functions/agents/standard.json.
    """
    found: list[Any] = []
    try:
        for file in files:
            found += [document for _, document in documents_in(file)]
        wanted = list(places_of(found))
    except (OSError, ValueError, RecursionError) as error:
        click.echo(f"cfm: {file}: {error}", err=True)
        sys.exit(FAILED)
    for path, document in wanted:
        status, _ = call(data, "PUT", BASE + path, document)
        click.echo(f"{urllib.parse.unquote(path.removeprefix('/'))} {'created' if status == 201 else 'replaced'}")
