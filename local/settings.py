"""``cfm settings``: what a process would be told by this environment."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from local.cli import FAILED, fail


@click.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def settings(output: str) -> None:
    """Print all settings as this environment has them, and where each comes from; secrets are masked.

    Origins are default, environment, or the file that holds a secret.
    """
    from cfm_core.errors import CfmError
    from cfm_core.settings import told

    try:
        found = told()
    except CfmError as error:
        fail(str(error), FAILED)
    if output == "json":
        click.echo(json.dumps([asdict(one) for one in found]))
        return
    width = max(len(one.variable) for one in found)
    origins = max(len(one.origin) for one in found)
    for one in found:
        click.echo(f"{one.variable:{width}}  {one.origin:{origins}}  {one.shown}".rstrip())
