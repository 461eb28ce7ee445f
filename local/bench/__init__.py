"""``cfm bench``: speed and memory of a whole stack on this machine, each figure beside a yardstick of the same run."""

from __future__ import annotations

import click

NAMES = ("deployment-latency", "deployment-rate", "http", "rest", "query", "engine", "agents")


@click.command()
@click.argument("name", required=False, type=click.Choice(NAMES))
@click.option("--deployments", default=500, show_default=True, help="How many deployments at once.")
@click.option("--seconds", default=4.0, show_default=True, help="How long each rate is taken.")
@click.option("--tenants", default=1_000_000, show_default=True, help="query: how many tenants there are.")
@click.option("--profiles", default=200_000, show_default=True, help="query: how many participant profiles there are.")
@click.option("--runs", default=1_000_000, show_default=True, help="engine: how many runs are stored for comparisons.")
@click.option(
    "--participants", default=200, show_default=True, help="agents: how many participants come and go at once."
)
def bench(
    name: str | None, deployments: int, seconds: float, tenants: int, profiles: int, runs: int, participants: int
) -> None:
    """Measure a private stack, and print the figures as one JSON object.

    Everything runs on this machine, the load generator included. Rates are taken without authentication and with it;
    the ratio of both for reading a tenant ("http") is that of two stacks in turns.
    "query" and "engine" take some minutes and gigabytes, and are measured only when they are named, as "agents" is; "engine"
    takes its sustained rate fifteen times as long as others.
    """
    import json

    from local.bench.run import measure, measure_agents, measure_engine, measure_queries
    from local.interrupts import as_interrupts

    def say(text: str) -> None:
        click.echo(text, err=True)

    with as_interrupts():
        match name:
            case "query":
                figures = measure_queries(tenants, profiles, seconds, say)
            case "engine":
                figures = measure_engine(deployments, runs, seconds, say)
            case "agents":
                figures = measure_agents(participants, say)
            case _:
                figures = measure(name, deployments, seconds, say)
    click.echo(json.dumps(figures, indent=2))
