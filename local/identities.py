"""``cfm migrate``, ``cfm nats-users`` and ``cfm event-tokens``: who may do what in a deployment, for whoever sets one up.

Secrets come from the environment and from files, and go to standard output or nowhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cfm_core.errors import CfmError, RecoverableError
from local.cli import FAILED, UNREACHABLE, fail

if TYPE_CHECKING:
    from cfm_core.declaration import EventFunction
    from cfm_core.store.roles import Role

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def _agents_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--agent", "agents", multiple=True, type=_FILE, help="A file with an agent of one's own, besides the project's."
    )(command)


@click.command()
@click.option(
    "--passwords",
    type=_FILE,
    help='A JSON file: {"tenant_manager": "...", ...}. A role without one keeps what it has.',
)
def migrate(passwords: Path | None) -> None:
    """Bring the database of CFM_DATABASE_URL up to date: its roles, its tables, and who may do what with them.

    Connects as somebody with CREATEROLE who owns the database; later, as its maintenance role. Prints what was applied.
    """
    from cfm_core.store.roles import set_up

    url = os.environ.get("CFM_DATABASE_URL", "")
    if not url:
        fail("CFM_DATABASE_URL is not set; it says where the database is, and who connects", FAILED)
    try:
        for migration in set_up(url, _passwords(passwords)):
            click.echo(f"{migration.number:04} {migration.name}")
    except RecoverableError as error:
        fail(str(error), UNREACHABLE)
    except CfmError as error:
        fail(str(error), FAILED)


@click.command("nats-users")
@click.option("--stream", default="cfm-stream", show_default=True, help="The stream of manifests and responses.")
@click.option("--edc-stream", default="edc-events", show_default=True, help="That of the dataspace services' events.")
@_agents_option
def nats_users(stream: str, edc_stream: str, agents: tuple[Path, ...]) -> None:
    """Print the users of NATS in their accounts, for a nats-server's configuration to include.

    There is a user for each manager's trigger, in one account with the streams, and an account with a user for a trigger of
    each agent. Their passwords are variables of the server's environment; agents themselves have no user. What has to be told
    to each trigger is in the comments.
    """
    from cfm_core.contracts.subjects import is_foreign
    from cfm_core.eventing.permissions import identities, render

    functions = _functions(agents)
    listeners = {one.subject: one.source.stem for one in functions if is_foreign(one.subject)}
    found = identities([one.subject for one in functions], listeners)
    try:
        rendered = render(found, stream, edc_stream)
    except CfmError as error:
        fail(str(error), FAILED)
    for one in found:
        click.echo(f"# {one.name}: CFM_NATS_USER={one.name} CFM_NATS_INBOX_PREFIX={one.inbox_prefix}")
    click.echo(rendered, nl=False)


@click.command("event-tokens")
@click.option(
    "--key-file",
    "key_files",
    type=_FILE,
    multiple=True,
    required=True,
    help="A file with the trigger's key. While a key is being changed: twice, the new one first.",
)
@_agents_option
@click.argument("names", metavar="[FUNCTION]...", nargs=-1)
def event_tokens(key_files: tuple[Path, ...], agents: tuple[Path, ...], names: tuple[str, ...]) -> None:
    """Print the tokens that open FUNCTION, or each event function there is, as CFM_EVENT_TOKENS_FILE has to hold them."""
    from cfm_core.contracts.event_tokens import dump, key_in

    known = [function.name for function in _functions(agents)]
    if unknown := [name for name in names if name not in known]:
        fail(f"there is no event function {', '.join(unknown)}", FAILED)
    try:
        keys = [key_in(file.read_text(encoding="utf-8")) for file in key_files]
    except (CfmError, OSError, UnicodeError) as error:
        fail(f"a key file cannot be used: {error}", FAILED)
    click.echo(dump(keys, names or known))


def _functions(agents: Iterable[Path]) -> list[EventFunction]:
    from cfm_core.declaration import EventFunction
    from local.server import agents as of_the_project
    from local.server import functions_of, managers

    try:
        everything = [*managers(), *of_the_project(), *(one for agent in agents for one in functions_of(agent))]
    except CfmError as error:
        fail(str(error), FAILED)
    return [one for one in everything if isinstance(one, EventFunction)]


def _passwords(file: Path | None) -> dict[Role, str]:
    from cfm_core.store.roles import Role

    if file is None:
        return {}
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
        found = {Role(name): password for name, password in document.items()}
    except (ValueError, AttributeError):
        fail(f"{file} must hold a JSON object with a password for each of {', '.join(Role)}", FAILED)
    if not all(isinstance(password, str) and password for password in found.values()):
        fail(f"{file}: a password is a text that is not empty", FAILED)
    return found
