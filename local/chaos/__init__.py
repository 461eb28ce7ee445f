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
@click.option(
    "--every",
    default=1.75,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Seconds between faults, on average.",
)
@click.option(
    "--spare", "spared", multiple=True, help="A process that no fault is done to; may be given several times."
)
@click.option("--patience", default=120.0, show_default=True, help="Seconds until everything has to be at rest again.")
@click.option("--plan", "only_plan", is_flag=True, help="Print the plan of the seed, and do nothing.")
def chaos(
    seed: int,
    minutes: float,
    seconds: float,
    rate: float,
    every: float,
    spared: tuple[str, ...],
    patience: float,
    only_plan: bool,
) -> None:
    """Kill, pause and restart the processes of a private stack, lose its messages, and check that nothing was lost.

    Prints a summary of all runs as one JSON object. A run that breaks a rule is the last: the exit code is 1, and its
    directory stays. The same run is made again with its seed and --minutes 0.

    While the agent is spared (--spare agent-chaos_agent), activities are executed 1.05 times at most.
    """
    import json
    import sys

    from local.chaos import plan
    from local.chaos.command import repeatedly
    from local.interrupts import as_interrupts

    if unknown := {*spared} - {*plan.PROCESSES}:
        raise click.UsageError(
            f"--spare: there is no {', '.join(sorted(unknown))}; there are {', '.join(plan.PROCESSES)}"
        )
    if only_plan:
        click.echo(json.dumps(plan.draw(seed, seconds, rate, spared, every).to_json(), indent=1))
        return
    with as_interrupts():
        summary = repeatedly(
            seed, minutes, seconds, rate, every, spared, patience, lambda text: click.echo(text, err=True)
        )
    click.echo(json.dumps(summary, indent=2))
    sys.exit(1 if summary["violations"] else 0)
