"""The ``cfm`` command. Whatever a command needs is imported when it runs, so that ``cfm --help`` answers at once."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from local.directory import default_directory

if TYPE_CHECKING:
    from local.state import StackState

FAILED, TIMED_OUT, NOT_ALLOWED, NOT_FOUND, CONFLICT, UNREACHABLE = 1, 3, 4, 5, 6, 7
"""Exit codes beside 0 (done) and 2 (usage, click's own)."""

_ELSEWHERE = {
    "administrator": "local.administrators:administrator",
    "agent": "local.agent.command:agent",
    "apply": "local.applying:apply",
    "audit": "local.audit:audit",
    "demo": "local.demo:demo",
    "bench": "local.bench:bench",
    "chaos": "local.chaos:chaos",
    "definition": "local.definitions:definition",
    "query-index": "local.query_indexes:query_index",
    "migrate": "local.identities:migrate",
    "nats-users": "local.identities:nats_users",
    "event-tokens": "local.identities:event_tokens",
    "reconcile": "local.reconciling:reconcile",
    "settings": "local.settings:settings",
}


class _Commands(click.Group):
    """The commands of this module, and those of modules that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _ELSEWHERE:
            module, _, name = _ELSEWHERE[cmd_name].partition(":")
            command: click.Command = getattr(importlib.import_module(module), name)
            return command
        return super().get_command(ctx, cmd_name)


data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, readable=False),
    default=default_directory,
    show_default="${XDG_DATA_HOME:-~/.local/share}/cfm/default",
    help="The directory of the stack.",
)


@click.group(cls=_Commands)
def main() -> None:
    """The Connector Fabric Manager on one machine.

    Exit codes: 0 done, 1 failed, 2 usage, 3 timed out, 4 not allowed, 5 not found, 6 conflict, 7 unreachable (nothing runs).
    """


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address of the API.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Its port; 0: a free one.")
@data_option
@click.option("--detach", is_flag=True, help="Return when it is ready, and leave it running.")
@click.option("--no-auth", is_flag=True, help="Let everybody in, without a token; on loopback only.")
@click.option("--seed", is_flag=True, help="Apply the demonstration fabric: definitions, a cell, a dataspace profile.")
@click.option("--database-url", default="", help="A PostgreSQL of your own, 15 or newer.")
@click.option("--nats-url", default="", help="A NATS server of your own, 2.10 or newer, with JetStream.")
@click.option(
    "--agent", "agents", multiple=True, type=click.Path(path_type=Path), help="Serve the activity type of this file."
)
@click.option("--isolated", is_flag=True, help="A process for every function; takes some GB of memory.")
def up(
    host: str,
    port: int,
    data: Path,
    detach: bool,
    no_auth: bool,
    seed: bool,
    database_url: str,
    nats_url: str,
    agents: tuple[Path, ...],
    isolated: bool,
) -> None:
    """Start the whole system: both managers, agents, stand-ins, trigger, Postgres, NATS. Ctrl-C stops it."""
    from local.servers.process import StartError
    from local.stack import Stack, quietly
    from local.up import detached, foreground

    if no_auth:
        click.echo("cfm: warning: without tokens, whoever reaches this API may do everything", err=True)

    try:
        stack = Stack(
            data,
            host=host,
            port=port,
            auth=not no_auth,
            agents=agents,
            database_url=database_url,
            nats_url=nats_url,
            isolated=isolated,
            say=quietly if detach else lambda text: click.echo(f"cfm: {text}", err=True),
        )
    except StartError as error:
        fail(str(error), FAILED)
    sys.exit(detached(stack, seed) if detach else foreground(stack, seed))


@main.command()
@data_option
def down(data: Path) -> None:
    """Stop the stack, and return when it has ended."""
    from local import state

    data = data.expanduser().resolve()
    try:
        stopped = state.stop(data)
    except TimeoutError as error:
        fail(str(error), TIMED_OUT)
    except (PermissionError, state.DirectoryError) as error:
        fail(str(error), NOT_ALLOWED)
    except state.RunningError as error:
        fail(str(error), CONFLICT)
    click.echo(f"stopped the stack in {data}" if stopped else f"nothing runs in {data}", err=True)


@main.command()
@data_option
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(data: Path, output: str) -> None:
    """Tell what runs and whether it is healthy: exit code 0 if all is, 1 if not, 7 if nothing runs."""
    from local import reports

    found = _running(data)
    report = reports.report(found)
    click.echo(reports.as_json(found, report) if output == "json" else reports.as_table(found, report))
    sys.exit(0 if found.ready and all(one.healthy for one in report) else FAILED)


@main.command()
@click.argument("name", required=False)
@data_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until the stack ends.")
def logs(name: str | None, data: Path, follow: bool) -> None:
    """Print the log of the process NAME, or all of them, each line with its process's name."""
    from local import reports, state

    data = data.expanduser().resolve()
    found = reports.log_files(data)
    if not found:
        fail(f"there are no logs in {data}", UNREACHABLE)
    if name is not None and name not in found:
        fail(f"there is no process {name!r}; there are {', '.join(found)}", NOT_FOUND)
    try:
        for line in reports.log_lines(data, name, (lambda: state.running(data) is not None) if follow else None):
            click.echo(line)
    except KeyboardInterrupt:
        return


@main.command()
@data_option
def env(data: Path) -> None:
    """Print the variables of the stack for a shell: eval "$(cfm env)"."""
    found = _ready(data)
    values = {
        "CFM_URL": found.url,
        "CFM_TOKEN": _token(data) if found.auth else "",
        "CFM_DATABASE_URL": found.database_url,
        "CFM_NATS_URL": found.nats_url,
    }
    for name, value in values.items():
        escaped = value.replace("'", "'\\''")
        click.echo(f"export {name}='{escaped}'")


@main.command()
@data_option
@click.option(
    "--scope", help='The scopes, for example "tenant-manager-api:read provision-manager-api:read"; all if not given.'
)
@click.option("--subject", default="cfm", show_default=True, help="Who the token speaks for.")
def token(data: Path, scope: str | None, subject: str) -> None:
    """Print an access token of the stack's issuer, good for 12 hours."""
    _ready(data)
    click.echo(_token(data, scope, subject))


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]")
def test(arguments: tuple[str, ...]) -> None:
    """Check style and types and run all tests; with arguments for pytest, only that."""
    from local import checks

    sys.exit(checks.run(arguments))


def _running(data: Path) -> StackState:
    from local import state

    data = data.expanduser().resolve()
    found = state.running(data)
    if found is None:
        fail(f"nothing runs in {data}; start it with 'cfm up'", UNREACHABLE)
    return found


def _ready(data: Path) -> StackState:
    found = _running(data)
    if not found.ready:
        fail(f"the stack in {data} is still starting", UNREACHABLE)
    return found


def api_of(data: Path) -> tuple[str, str]:
    """The API's address and a token with all scopes, empty where none is needed; ends the command if nothing runs."""
    found = _ready(data)
    return found.url, _token(data) if found.auth else ""


def database_url_of(data: Path) -> str:
    """How to connect to the stack's database, password included; ends the command if nothing runs."""
    return _ready(data).database_url


def _token(data: Path, scope: str | None = None, subject: str = "cfm") -> str:
    from local.issuer import SCOPES, Issuer

    issuer = Issuer(data.expanduser().resolve() / "issuer")
    return issuer.token(SCOPES if scope is None else scope.split(), subject)


def fail(text: str, code: int) -> NoReturn:
    """End the command with an exit code, and say why."""
    click.echo(f"cfm: {text}", err=True)
    sys.exit(code)
