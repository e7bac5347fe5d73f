"""Small real runs of the whole graph."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from deeper_assets.store.warehouse import Warehouse

SMALL = ["--domains", "book,grocery", "--train-users", "3", "--eval-users", "4"]


def environment(home: Path | None = None, **more: str) -> dict[str, str]:
    """The variables of a small experiment, which trains nothing unless `more` says so."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEEPER_", "DAGSTER_"))}
    small = {"DEEPER_SYNTHETIC_USERS": "24", "DEEPER_TRAIN_RECIPES": "[]"}
    return {**kept, **small, **({"DEEPER_HOME": str(home)} if home else {}), **more}


def deeper(*arguments: object, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user would, in a process of its own."""
    command = [sys.executable, "-m", "deeper_assets.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**more), check=False)
    if check and done.returncode:
        raise AssertionError(f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


@pytest.fixture(scope="session")
def small_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which a small run has been made. Tests read it and leave it as it is."""
    home = tmp_path_factory.mktemp("small") / "home"
    deeper("run", "--home", home, *SMALL)
    return home


@pytest.fixture
def tables() -> Callable[[Path], dict[str, pd.DataFrame]]:
    """Reads every result table of a home, without provenance."""

    def read(home: Path) -> dict[str, pd.DataFrame]:
        warehouse = Warehouse(home / "warehouse.duckdb")
        names = ["rating_windows", "persona_rounds", "round_predictions", "round_errors", "mae_table"]
        return {name: warehouse.load(name) for name in names}

    return read
