"""`deeper journal`: what was asked of the chat model, what it cost, and its answers."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deeper_assets.cli_options import HOME, experiment_in

if TYPE_CHECKING:
    from deeper_assets.resources import Experiment


@click.group("journal", invoke_without_command=True)
@HOME
@click.pass_context
def journal_group(context: click.Context, home: Path | None) -> None:
    """Show what was asked of the chat model and what it cost; `prune` and `export` its answers."""
    from deeper_assets.reports.text import usage_as_text

    experiment = experiment_in(home)
    context.obj = experiment
    if context.invoked_subcommand is None:
        answers, size = experiment.journal.size()
        click.echo(f"{experiment.journal.path}: {answers:,} answers, {size / 1e6:,.1f} MB")
        if damaged := experiment.journal.damaged():
            click.echo(f"{damaged:,} of them are damaged: `deeper journal prune --damaged` forgets them")
        click.echo(usage_as_text(experiment.usage(), experiment.settings.max_cost_usd))


@journal_group.command()
@click.option("--before", type=click.DateTime(), help="Only answers from before this moment, UTC.")
@click.option("--model", help="Only answers of this model.")
@click.option("--damaged", is_flag=True, help="Only answers that are not what was written any more.")
@click.confirmation_option(prompt="Pruned answers have to be paid for again when they are needed. Go on?")
@click.pass_obj
def prune(experiment: "Experiment", before: datetime | None, model: str | None, damaged: bool) -> None:
    """Forget answers, and make the file smaller; what they cost stays booked."""
    gone = experiment.journal.prune(before and before.replace(tzinfo=UTC), model, damaged=damaged)
    click.echo(f"{gone:,} answers pruned")


@journal_group.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def export(experiment: "Experiment", file: Path) -> None:
    """Write every answer with its request to FILE, as a JSON object a line; only you may read it."""
    partial = file.with_name(file.name + ".partial")
    with partial.open("w", encoding="utf-8", errors="replace") as out:
        for answer in experiment.journal.export():
            out.write(json.dumps(answer, ensure_ascii=False) + "\n")
    partial.replace(file)
    click.echo(f"answers written to {file}")
