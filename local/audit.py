"""``cfm audit``: whether the audit trail is still what was sealed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from local.cli import FAILED, UNREACHABLE, data_option, database_url_of, fail

_MOST_SHOWN = 100


@click.group()
def audit() -> None:
    """The audit trail: who has changed what."""


@audit.command()
@data_option
@click.option(
    "--seal", "anchor", default="", metavar="NUMBER:DIGEST", help="A seal that was written down elsewhere, as in a log."
)
def verify(data: Path, anchor: str) -> None:
    """Tell what of the audit trail was altered, removed, inserted or reordered; exit code 1 if anything was.

    It is that of the database of CFM_DATABASE_URL, or else of the running stack.
    """
    from cfm_core.audit.evidence import snapshot
    from cfm_core.audit.verification import verify as verified
    from cfm_core.errors import CfmError

    if anchor and not anchor.partition(":")[0].isdigit():
        raise click.BadParameter("must be the number of a seal, a colon, and its digest", param_hint="--seal")
    try:
        with snapshot(os.environ.get("CFM_DATABASE_URL") or database_url_of(data)) as evidence:
            done = verified(evidence, anchor)
    except CfmError as error:
        fail(str(error), UNREACHABLE)
    for finding in done.findings[:_MOST_SHOWN]:
        click.echo(finding)
    if len(done.findings) > _MOST_SHOWN:
        click.echo(f"and {len(done.findings) - _MOST_SHOWN} more")
    waiting = f"; {done.waiting} entries are still to be sealed" if done.waiting else ""
    click.echo(
        f"{done.entries} entries under {done.seals} seals, the last one {done.last or 'none'}{waiting}", err=True
    )
    sys.exit(FAILED if done.findings else 0)
