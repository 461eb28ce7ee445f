"""``cfm demo``: participants onboarded, disposed and compensated through the public API, each step shown as it happens."""

from __future__ import annotations

import click

STANDINS = ("jwtlet", "controlplane", "identityhub", "issuerservice")


@click.command()
@click.option("--keep", is_flag=True, help="Leave the stack running, and print its directory.")
@click.option(
    "--fail", type=click.Choice(STANDINS), help="Make this stand-in refuse, and show that nothing is left behind."
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
            run(keep=keep, fail=fail, say=click.echo)
    except (DemoError, StartError, httpx2.HTTPError) as error:
        click.echo(f"cfm demo: {error}", err=True)
        raise SystemExit(1) from None
