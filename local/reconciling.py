"""``cfm reconcile``: the dataspace services held against our records, once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from local.cli import FAILED, UNREACHABLE, api_of, data_option, fail

_RECORDS = "CFM_TENANT_MANAGER_URL"


@click.command()
@click.option("--report", is_flag=True, help="Only look, and change nothing.")
@data_option
def reconcile(report: bool, data: Path) -> None:
    """Request credentials anew that end soon; print as JSON what the services lack, and what they have of nobody.

    Looks at the running stack, or, where CFM_TENANT_MANAGER_URL is set, at the services that the environment names as it does
    for agents. Exit code 0 if nothing differs, 1 if something does or could not be looked at.
    """
    from cfm_core import deployment
    from cfm_core.assembly import AssemblyError
    from cfm_core.errors import CfmError, RecoverableError
    from cfm_core.reconciliation.assembly import RECONCILIATION

    if _RECORDS not in os.environ:
        os.environ.update(_of_stack(data))
    try:
        (reconciliation,) = deployment.services([RECONCILIATION])
        if not report:
            done = reconciliation.renew_all()
            click.echo(f"requested {done.requested} credentials of {done.participants} participants anew", err=True)
        found = reconciliation.report_all()
    except RecoverableError as error:
        fail(str(error), UNREACHABLE)
    except (AssemblyError, CfmError) as error:
        fail(str(error), FAILED)
    finally:
        deployment.stop()
    click.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
    sys.exit(FAILED if found.missing or found.superfluous or found.not_looked_at else 0)


def _of_stack(data: Path) -> dict[str, str]:
    """What the stack's own agents are told."""
    from local import state
    from local.standins import agent_environment

    data = data.expanduser().resolve()
    url, token = api_of(data)
    found = state.running(data)
    if found is None:
        fail(f"the stack in {data} has just ended", UNREACHABLE)
    told = agent_environment(found.standins_url, found.standins_token, data / "service-account-token")
    records = {"CFM_TENANT_MANAGER_TOKEN_FILE": str(data / state.RECORDS_TOKEN)} if token else {}
    return told | {_RECORDS: url} | records
