"""``cfm administrator``: the first user who may do everything, made in the database, since nobody may make one by the API yet."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from local.cli import CONFLICT, FAILED, UNREACHABLE, data_option, database_url_of, fail

_ACTOR = "cfm administrator"
"""Who is said to have done it in the audit trail; tokens have an issuer besides."""


@click.command()
@click.argument("subject")
@click.option("--issuer", default="", help="Whose tokens name SUBJECT so; any trusted issuer if not given.")
@data_option
def administrator(subject: str, issuer: str, data: Path) -> None:
    """Make SUBJECT, as tokens call somebody, the first user who may do everything. Refused once there is one.

    The database is that of CFM_DATABASE_URL, or else of the running stack.
    """
    from cfm_core.access.store import PostgresRights
    from cfm_core.caller import Caller, acting
    from cfm_core.errors import CfmError, ConflictError, RecoverableError
    from cfm_core.store.database import Database

    if not subject or "\0" in subject + issuer:
        raise click.BadParameter("it must not be empty, nor contain a NUL character", param_hint="SUBJECT")
    url = os.environ.get("CFM_DATABASE_URL") or database_url_of(data)
    with contextlib.closing(Database(url, size=1)) as database:
        try:
            with acting(Caller(actor=_ACTOR, request_id="", reason="the first administrator")):
                user_id = PostgresRights(database).make_first_administrator(issuer, subject)
        except ConflictError as error:
            fail(str(error), CONFLICT)
        except RecoverableError as error:
            fail(f"{error}, or the user of its URL may not write users there", UNREACHABLE)
        except CfmError as error:
            fail(str(error), FAILED)
    click.echo(f"{subject} may do everything (user {user_id}); it counts within two seconds", err=True)
