"""Small real runs of the whole graph."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import SMALL, deeper


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
