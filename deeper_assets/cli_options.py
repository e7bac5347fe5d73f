"""What commands share: the option that names the home folder, and the experiment in it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deeper_assets.resources import Experiment

HOME = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the experiment.  [default: DEEPER_HOME, or .deeper here]",
)

_opened: list[Path] = []


def experiment_in(home: Path | None, flags: dict[str, Any] | None = None) -> "Experiment":
    """The experiment in a home folder, under its settings and what flags say."""
    from deeper_assets.layers import home_folder, load_settings
    from deeper_assets.privacy import keep_private
    from deeper_assets.resources import Experiment

    folder = home_folder(home)
    _opened.append(folder)
    experiment = Experiment(folder, load_settings(folder, flags))
    keep_private(folder)
    return experiment


def opened_home() -> Path | None:
    """The home folder that this command works in; None before it has looked for one."""
    return _opened[-1] if _opened else None
