"""``cfm demo``: participants onboarded, disposed and compensated through the public API, each step shown as it happens."""

from __future__ import annotations

import click

ACTIVITIES = ("jwtlet", "edcv", "identityhub", "registration", "siglet", "onboarding")
"""Types of activities, without what they all end with."""
STANDINS = {"controlplane": "edcv", "issuerservice": "registration"}
"""The activities that ask a stand-in for something, where the stand-in has another name."""


@click.command()
@click.option("--keep", is_flag=True, help="Leave the stack running, and print its directory.")
@click.option(
    "--fail",
    type=click.Choice([*ACTIVITIES, *STANDINS]),
    help="Let this activity, or that of this stand-in, be refused; show what is done, undone, and left behind.",
)
def demo(keep: bool, fail: str | None) -> None:
    """Onboard a participant on a private stack, and show every request and every activity.

    Exits 0 when all went as it should: the participant's VPAs are active, a second one is disposed again, a failed one is
    compensated. With --fail only the failure is shown.
    """
    import httpx2

    from local.interrupts import as_interrupts
    from local.onboarding import DemoError, run
    from local.servers.process import StartError

    try:
        with as_interrupts():
            run(keep=keep, fail=STANDINS.get(fail or "", fail), say=click.echo)
    except (DemoError, StartError, httpx2.HTTPError) as error:
        click.echo(f"cfm demo: {error}", err=True)
        raise SystemExit(1) from None
