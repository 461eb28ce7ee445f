"""``cfm chaos``: a whole stack under faults, and afterwards every rule of the engine is looked at."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--seed", default=1, show_default=True, help="The plan of the first run; each further run has the next one."
)
@click.option("--minutes", default=5.0, show_default=True, help="No run begins later; there is one at least.")
@click.option("--seconds", default=60.0, show_default=True, help="How long each run makes requests and faults.")
@click.option("--rate", default=36.0, show_default=True, help="How many orchestrations a run asks for in a second.")
@click.option("--patience", default=120.0, show_default=True, help="Seconds until everything has to be at rest again.")
@click.option("--plan", "only_plan", is_flag=True, help="Print the plan of the seed, and do nothing.")
def chaos(seed: int, minutes: float, seconds: float, rate: float, patience: float, only_plan: bool) -> None:
    """Kill, pause and restart the processes of a private stack, lose its messages, and check that nothing was lost.

    Prints a summary of all runs as one JSON object. A run that breaks a rule is the last: the exit code is 1, and its
    directory stays. The same run is made again with its seed and --minutes 0.
    """
    import json
    import sys

    from local.chaos import plan
    from local.chaos.command import repeatedly
    from local.interrupts import as_interrupts

    if only_plan:
        click.echo(json.dumps(plan.draw(seed, seconds, rate).to_json(), indent=1))
        return
    with as_interrupts():
        summary = repeatedly(seed, minutes, seconds, rate, patience, lambda text: click.echo(text, err=True))
    click.echo(json.dumps(summary, indent=2))
    sys.exit(1 if summary["violations"] else 0)
