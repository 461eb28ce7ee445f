"""``cfm definition``: definitions in files, checked without a system that runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from local.cli import FAILED
from local.documents import documents_in

if TYPE_CHECKING:
    from cfm_core.errors import FieldError


@click.group("definition")
def definition() -> None:
    """Look at definitions of activities and orchestrations."""


@definition.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
def lint(files: tuple[Path, ...]) -> None:
    """Check the definitions in FILE... as the Provision Manager would; exit code 1 if it would refuse one.

    A file holds one document or an array of them, in JSON, as they are posted: what has "activities" is a template, anything
    else an activity definition. Templates are held against the activity definitions of all files.
    """
    from cfm_core.errors import ValidationError
    from cfm_core.provisioning.definitions.model import ActivityDefinition, OrchestrationTemplate
    from cfm_core.provisioning.definitions.rules import check_activity_definition, findings_of_template
    from cfm_core.provisioning.definitions.v1alpha1 import ActivityDefinitionDocument, OrchestrationTemplateDocument
    from cfm_core.web import body

    known: dict[str, ActivityDefinition] = {}
    templates: list[tuple[str, OrchestrationTemplate]] = []
    failed = False

    def tell(where: str, problems: Sequence[FieldError], kind: str) -> None:
        for one in problems:
            click.echo(f"{where}{one.pointer}: {kind}: {one.detail}")

    for file in files:
        try:
            documents = list(documents_in(file))
        except (OSError, ValueError, RecursionError) as error:
            click.echo(f"{file}: error: {error}")
            failed = True
            continue
        for where, document in documents:
            try:
                raw = json.dumps(document).encode()
                if isinstance(document, dict) and "activities" in document:
                    template, unknown = body.parse(raw, OrchestrationTemplateDocument)
                    templates.append((where, template.to_model()))
                else:
                    activity, unknown = body.parse(raw, ActivityDefinitionDocument)
                    known[activity.type] = activity.to_model()
                    check_activity_definition(known[activity.type])
                for one in unknown:
                    click.echo(f"{where}: warning: {one}")
            except ValidationError as error:
                tell(where, error.errors or [_whole(error)], "error")
                failed = True
    for where, model in templates:
        found = findings_of_template(model, known)
        tell(where, found.problems, "error")
        tell(where, found.doubts, "warning")
        failed = failed or bool(found.problems)
    sys.exit(FAILED if failed else 0)


def _whole(error: Exception) -> FieldError:
    from cfm_core.errors import FieldError

    return FieldError("", str(error))
