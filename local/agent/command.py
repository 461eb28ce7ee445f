"""``cfm agent``: for the authors of agents."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from local.cli import CONFLICT, FAILED, NOT_ALLOWED, NOT_FOUND, UNREACHABLE, fail

if TYPE_CHECKING:
    from cfm_core.declaration import EventFunction

USAGE = 2

_file = click.argument("file", metavar="FILE.py", type=click.Path(path_type=Path, dir_okay=False, exists=True))
_values = click.option(
    "--values",
    metavar="FILE.json",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The processing data: a JSON object.",
)
_type = click.option(
    "--type", "activity_type", default="", help="One of the activity types of the file; all if not given."
)


@click.group("agent")
def agent() -> None:
    """Write, run and check activity agents."""


def _regex(ctx: click.Context, option: click.Parameter, value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise click.BadParameter(f"no regular expression: {error}") from None
    return value


@agent.command()
@_file
@_values
@_type
@click.option(
    "--service",
    "services",
    multiple=True,
    metavar="NAME[=URL]",
    help="A service of your own that the agent calls: the environment variable in which it finds the address, and the"
    " address, if it is not in there. May be given more than once.",
)
@click.option(
    "--ignore",
    default="",
    metavar="REGEX",
    callback=_regex,
    help="Do not count what differs at these places, such as '^/outputs/seen' or '/POST ~1token$'.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def check(
    file: Path, values: Path | None, activity_type: str, services: tuple[str, ...], ignore: str, output: str
) -> None:
    """Prove that the agent of FILE.py can be repeated, interrupted and reordered; exit code 1 if it cannot.

    It runs against stand-ins of the dataspace services, which hold nothing at the beginning of each case, as the last
    activity of the demonstration's deployment. A service of its own (--service) is not reset: what deploy makes there,
    dispose has to take away. What such a service is told by a POST counts as often as it is told.
    """
    from local.agent.check import check as cases_of
    from local.agent.files import declaration_of
    from local.agent.ground import GroundError
    from local.interrupts import as_interrupts

    given, own = _object(values), _services(services)
    logging.getLogger("cfm.agent").setLevel(logging.CRITICAL)
    found: dict[str, list[dict[str, Any]]] = {}
    count = failed = 0
    try:
        with as_interrupts():
            for cls in _activities(file, activity_type):
                kind = declaration_of(cls).activity_type
                if output == "table":
                    click.echo(f"{kind}, {cls.__name__} in {file}")
                for case in cases_of(cls, values=given, services=own, ignore=ignore):
                    count, failed = count + 1, failed + bool(case.problems)
                    found.setdefault(kind, []).append({"case": case.name, "problems": list(case.problems)})
                    if output == "table":
                        click.echo(str(case))
    except GroundError as error:
        fail(str(error), FAILED)
    click.echo(json.dumps(found) if output == "json" else f"{count} cases, {failed} failed")
    sys.exit(FAILED if failed else 0)


@agent.command()
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default="this directory",
    help="Where its files go.",
)
def new(name: str, into: Path) -> None:
    """Write a complete agent for the activity type NAME, such as acme.dns: the agent, a stand-in for its service, its test."""
    from cfm_core.errors import ConflictError, ValidationError
    from local.agent.scaffold import Names, write

    try:
        files = write(name, into)
    except ValidationError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    except ConflictError as error:
        fail(str(error), CONFLICT)
    except OSError as error:
        fail(f"cannot write to {into}: {error.strerror}", FAILED)
    for file in files:
        click.echo(file)
    names = Names.of(name)
    click.echo(
        f"Next: pytest {into}; python {into / names.module}_service.py 9053; cfm agent check {into / names.module}.py"
        f" --values {into / 'values.json'} --service {names.variable}_URL=http://127.0.0.1:9053",
        err=True,
    )


@agent.command()
@_file
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8081, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option("--reload", is_flag=True, help="Serve it anew whenever a module changes.")
def run(file: Path, host: str, port: int, reload: bool) -> None:
    """Serve the agents of FILE.py on functions-framework, each at the name of its function. Ctrl-C stops it.

    Callers have to show the token of CFM_EVENT_TOKEN, which may be any text here.
    """
    from cfm_core.settings import Settings
    from local.agent.files import declaration_of
    from local.agent.serving import serve_file, serve_file_reloading
    from local.servers.process import free_port

    def say(text: str) -> None:
        click.echo(f"cfm: {text}", err=True)

    file = file.resolve()
    if not Settings.from_environ().event_token:
        fail("set CFM_EVENT_TOKEN to what callers of the agent have to show; any text will do here", USAGE)
    if reload:
        if port == 0:
            fail("--reload needs a --port, so that it stays the same", USAGE)
        serve_file_reloading(file, host, port, say)
        return
    port = port or free_port(host)
    for cls in _activities(file, ""):
        say(f"{declaration_of(cls).activity_type} is served at http://{host}:{port}/{_function_of(file, cls).name}")
    serve_file(file, host, port)


@agent.command()
@_file
@_values
@_type
@click.option("--dispose", is_flag=True, help="Dispose, instead of deploy.")
@click.option("--orchestration-id", default="invocation", show_default=True, help="What ids may be derived from.")
@click.option("--url", default="", help="Where its function is served; without it, it is called in this process.")
def invoke(file: Path, values: Path | None, activity_type: str, dispose: bool, orchestration_id: str, url: str) -> None:
    """Run the activity of FILE.py once, and print its result, the values and outputs that it has recorded, as JSON.

    It is called as the trigger would; where its services are, the environment says. Exit code 1 for retry and fatal.
    """
    from cfm_core.contracts.activity import ActivityDispatch, OutcomeKind
    from cfm_core.contracts.orchestration import DEPLOY, DISPOSE
    from cfm_core.errors import CfmError, ForbiddenError
    from local.agent import invoking
    from local.agent.files import declaration_of

    classes = _activities(file, activity_type)
    if len(classes) > 1:
        known = ", ".join(declaration_of(cls).activity_type for cls in classes)
        raise click.UsageError(f"{file} declares several activity types; say which with --type: {known}")
    dispatch = ActivityDispatch(
        orchestration_id=orchestration_id,
        phase=0,
        ord=0,
        token="invocation",  # noqa: S106 - it opens nothing
        activity_id="invocation",
        activity_type=declaration_of(classes[0]).activity_type,
        discriminator=DISPOSE if dispose else DEPLOY,
        correlation_id=orchestration_id,
        attempt=1,
        values=_object(values),
    )
    way = invoking.over_http(url) if url else invoking.in_process(_function_of(file, classes[0]))
    try:
        with way as post:
            outcome = invoking.invoke(post, dispatch)
    except ForbiddenError as error:
        fail(str(error), NOT_ALLOWED)
    except CfmError as error:
        fail(str(error), FAILED)
    except OSError as error:
        fail(f"the function at {url} does not answer: {error}", UNREACHABLE)
    click.echo(json.dumps(outcome, indent=2, ensure_ascii=False))
    sys.exit(FAILED if outcome["kind"] in {OutcomeKind.RETRY, OutcomeKind.FATAL} else 0)


@agent.command()
@_file
@_type
@click.option("--inputs", "part", flag_value="inputs", help="Only the JSON Schema of the values that deploy reads.")
@click.option("--outputs", "part", flag_value="outputs", help="Only the JSON Schema of what deploy gives.")
def schema(file: Path, activity_type: str, part: str | None) -> None:
    """Print the activity definition of FILE.py as it is to be posted, with JSON Schemas made of its models.

    An array, if the file declares several activity types.
    """
    from local.agent import schemas

    document_of = {None: schemas.definition_of, "inputs": schemas.inputs_of, "outputs": schemas.outputs_of}[part]
    documents = [document_of(cls) for cls in _activities(file, activity_type)]
    click.echo(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2, ensure_ascii=False))


def _function_of(file: Path, cls: type[Any]) -> EventFunction:
    """The function that serves an activity of a file."""
    from cfm_core.declaration import EventFunction, declared
    from local.agent.files import declaration_of

    return next(
        one
        for one in declared()
        if isinstance(one, EventFunction)
        and one.activity is not None
        and one.source == file.resolve()
        and one.activity.activity_type == declaration_of(cls).activity_type
    )


def _activities(file: Path, activity_type: str) -> tuple[type[Any], ...]:
    """The activities of a file; ends the command where there are none."""
    from cfm_core.errors import FatalError, ValidationError
    from local.agent.files import activities_in

    try:
        return activities_in(file, activity_type)
    except ValidationError as error:
        fail(str(error), NOT_FOUND)
    except FatalError as error:
        fail(str(error), FAILED)
    except Exception as error:
        fail(f"{file} cannot be imported: {type(error).__name__}: {error}", FAILED)


def _object(file: Path | None) -> dict[str, Any]:
    """The JSON object in a file; none for no file."""
    if file is None:
        return {}
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise click.BadParameter(f"{file}: {error}", param_hint="--values") from None
    if not isinstance(document, dict):
        raise click.BadParameter(f"{file} does not hold a JSON object", param_hint="--values")
    return document


def _services(given: tuple[str, ...]) -> dict[str, str]:
    """The author's services: the variable with the address, and the address."""
    found = {}
    for one in given:
        name, _, url = one.partition("=")
        url = url or os.environ.get(name, "")
        parts = urlsplit(url)
        if not name.isidentifier() or parts.scheme not in {"http", "https"} or not parts.netloc:
            raise click.BadParameter(
                f"{one!r}: give NAME=URL, or NAME alone where the environment has its URL", param_hint="--service"
            )
        found[name] = url
    return found
