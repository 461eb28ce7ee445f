"""``cfm bench``: speed and memory of a whole stack on this machine, each figure beside a yardstick of the same run."""

from __future__ import annotations

import click

NAMES = ("deployment-latency", "deployment-rate", "tenants", "rest")


@click.command()
@click.argument("name", required=False, type=click.Choice(NAMES))
@click.option("--deployments", default=500, show_default=True, help="How many deployments at once.")
@click.option("--seconds", default=4.0, show_default=True, help="How long each rate is taken.")
def bench(name: str | None, deployments: int, seconds: float) -> None:
    """Measure a private stack, and print the figures as one JSON object.

    Everything runs on this machine, the load generator included. Rates are taken without authentication and with it.
    """
    import json

    from local.bench.run import measure
    from local.interrupts import as_interrupts

    with as_interrupts():
        figures = measure(name, deployments, seconds, lambda text: click.echo(text, err=True))
    click.echo(json.dumps(figures, indent=2))
