"""Recipes against each other: `python -m deeper_assets_tests.benchmarks.recipes --data FOLDER`.

One home and one `deeper run` of every built-in recipe, and of `balanced` with each loss that it does not
have, each trained with three seeds. Its tables have intervals over users and trainings.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import get_args, get_type_hints

import yaml

from deeper_assets.method.recipes import DEFAULT_RECIPE, RECIPES, Recipe
from deeper_assets_tests.command import command


def write_profile(path: Path, only: list[str] | None, seeds: int) -> None:
    """A profile that trains recipes: the built-in ones, and those of other losses named by their loss."""
    losses = get_args(get_type_hints(Recipe)["loss"])
    own = {
        loss: {"like": DEFAULT_RECIPE, "loss": loss}
        for loss in losses
        if loss != RECIPES[DEFAULT_RECIPE].loss
    }
    profile = {
        "extends": "offline",
        "recipes": own,
        "train_recipes": only or [*RECIPES, *own],
        "training_seeds": seeds,
    }
    path.write_text(yaml.safe_dump(profile, sort_keys=False), encoding="utf-8")


def main() -> None:
    """Parses the command line and runs; `deeper run` prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of the published files")
    parser.add_argument("--recipes", nargs="+", help="leave out others; lipo and softmax are losses")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each recipe")
    parser.add_argument("--train-users", default="60", help="a domain, at most")
    parser.add_argument("--eval-users", default="all", help="a domain, at most")
    parser.add_argument("--home", type=Path, help="folder to keep; one that was begun is gone on with")
    given = parser.parse_args()
    users = ["--train-users", given.train_users, "--eval-users", given.eval_users]
    with tempfile.TemporaryDirectory(prefix="deeper-recipes-") as folder:
        home = (given.home or Path(folder, "home")).resolve()
        home.mkdir(parents=True, exist_ok=True)
        profile = home / "recipes.yaml"  # the home records this path, so the file stays there
        write_profile(profile, given.recipes, given.seeds)
        call = command("run", "--home", home, "--profile", str(profile), "--data", given.data, *users)
        raise SystemExit(subprocess.call(call))


if __name__ == "__main__":
    main()
