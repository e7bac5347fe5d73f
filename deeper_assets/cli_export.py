"""`deeper export`: preference pairs and models for other people's tools."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deeper_assets.cli_options import HOME, experiment_in
from deeper_assets.method.recipes import DEFAULT_RECIPE

if TYPE_CHECKING:
    from deeper_assets.engines.hub import Kind
    from deeper_assets.exporting import Form

RECIPE = click.option("--recipe", default=DEFAULT_RECIPE, show_default=True, help="Whose.")
TO_HUB = click.option(
    "--to-hub",
    metavar="OWNER/NAME",
    help="Also upload it, to a repository that is made private if it is not there (token: HF_TOKEN).",
)
FOLDER = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))


@click.group("export")
def export_group() -> None:
    """Write preference pairs or a model to a FOLDER, with a card, for other people's tools."""


@export_group.command("pairs")
@FOLDER
@HOME
@RECIPE
@click.option("--iteration", type=click.Choice(["1", "2", "both"]), default="both", show_default=True)
@click.option(
    "--format", "form", type=click.Choice(["trl", "llamafactory"]), default="trl", show_default=True
)
@TO_HUB
def export_pairs_command(
    folder: Path, home: Path | None, recipe: str, iteration: str, form: "Form", to_hub: str | None
) -> None:
    """Write preference pairs to FOLDER: a dataset for TRL's DPOTrainer, or for LLaMA-Factory."""
    from deeper_assets.exporting import export_pairs

    experiment = experiment_in(home)
    iterations = [1, 2] if iteration == "both" else [int(iteration)]
    with _pushed(folder, to_hub, "dataset"):
        export_pairs(experiment, folder, recipe, iterations, form)


@export_group.command("model")
@FOLDER
@HOME
@RECIPE
@click.option("--iteration", type=click.Choice(["1", "2"]), default="2", show_default=True)
@TO_HUB
def export_model_command(
    folder: Path, home: Path | None, recipe: str, iteration: str, to_hub: str | None
) -> None:
    """Write an adapter to FOLDER, as PEFT loads it; the offline base is put beside it."""
    from deeper_assets.exporting import export_model

    experiment = experiment_in(home)
    with _pushed(folder, to_hub, "model"):
        export_model(experiment, folder, recipe, int(iteration))


@contextmanager
def _pushed(folder: Path, repository: str | None, kind: "Kind") -> Iterator[None]:
    """Tells where the export was written, and uploads it where that is wanted.

    What hinders an upload is an error before anything is written.
    """
    from deeper_assets.engines import hub
    from deeper_assets.privacy import for_others

    if repository is not None:
        hub.refuse_unpushable(repository)
    with for_others():
        yield
    click.echo(f"wrote {folder}", err=True)
    if repository is not None:
        click.echo(f"pushed to {hub.push(folder, repository, kind)}", err=True)
