"""Recipes against each other: `python -m deeper_assets_tests.benchmarks.recipes --data FOLDER`.

One home and one `deeper run` of every built-in recipe, and of `balanced` with each loss that it does not
have, each trained with three seeds. Prints the last round of comparison_table, with intervals over users and
trainings, and `deeper` by domain: first with policies that write as the profile says, then sampled as
candidates are (`evaluation_decoding` set to `candidate_decoding`), in a copy of the home. Models 2 are
trained anew there, because S1 of iteration 2 is written as in evaluation.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import get_args, get_type_hints

import pandas as pd
import yaml

from deeper_assets.method.errors import MACRO, over_trainings
from deeper_assets.method.recipes import DEFAULT_RECIPE, RECIPES, Recipe
from deeper_assets.reports.text import comparison_text
from deeper_assets.settings import load_settings
from deeper_assets.store.warehouse import Warehouse
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


def run(home: Path, arguments: list[str], **more: str) -> str:
    """One `deeper run`; a remark where it failed in part. `deeper run` names the recipe that failed."""
    call = command("run", "--home", home, *arguments)
    done = subprocess.run(call, env={**os.environ, **more}, stdout=subprocess.DEVNULL, check=False)
    if done.returncode and load(home, "comparison_table").empty:
        raise SystemExit(f"{' '.join(call)}: exit {done.returncode}")
    return " (failed in part, see above: rows may be missing or of an earlier run)" if done.returncode else ""


def compare(home: Path, copy: Path, arguments: list[str], only: list[str] | None, seeds: int) -> None:
    """Runs in `home`, then in a copy of it where policies write as candidates are sampled; prints both."""
    home.mkdir(parents=True, exist_ok=True)
    profile = home / "recipes.yaml"  # the home records this path, so the file stays there
    write_profile(profile, only, seeds)
    arguments = ["--profile", str(profile), *arguments]
    failed = run(home, arguments)
    show(home, f"Policies write as the profile says{failed}")
    shutil.copytree(home, copy)
    decoding = json.dumps(asdict(load_settings(home).candidate_decoding))
    failed = run(copy, arguments, DEEPER_EVALUATION_DECODING=decoding)
    show(copy, f"Policies sampled as candidates are, Models 2 trained anew{failed}")


def load(home: Path, table: str) -> pd.DataFrame:
    """The rows of a home's table."""
    return Warehouse(home / "warehouse.duckdb").load(table)


def show(home: Path, heading: str) -> None:
    """Prints comparison_table's last round, and the error of `deeper` in each domain at both ends."""
    print(f"\n{heading}\n{comparison_text(load(home, 'comparison_table'))}")
    table = over_trainings(load(home, "mae_table"))
    first, last = table["round"].min(), table["round"].max()
    rows = table[(table["method"] == "deeper") & (table["domain"] != MACRO)]
    ends = rows.pivot(index="domain", columns="round", values="mae").reindex(columns=[first, last])
    errors = [f"{row[0]} {row[1]:.3f} → {row[2]:.3f}" for row in ends.itertuples()]
    print(f"deeper by domain, round {first} → {last}: {', '.join(errors)}", flush=True)


def main() -> None:
    """Parses the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of the published files")
    parser.add_argument("--recipes", nargs="+", help="leave out others; lipo and softmax are losses")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each recipe")
    parser.add_argument("--train-users", default="60", help="a domain, at most")
    parser.add_argument("--eval-users", default="all", help="a domain, at most")
    parser.add_argument("--home", type=Path, help="folder to keep; one that was begun is gone on with")
    given = parser.parse_args()
    arguments = ["--data", given.data, "--train-users", given.train_users, "--eval-users", given.eval_users]
    with tempfile.TemporaryDirectory(prefix="deeper-recipes-") as folder:
        home = (given.home or Path(folder, "home")).resolve()
        compare(home, Path(folder, "sampled"), arguments, given.recipes, given.seeds)


if __name__ == "__main__":
    main()
