"""An original data set through the whole graph."""

from pathlib import Path

import pytest

from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import deeper
from deeper_assets_tests.sources.reading import real_data

pytestmark = pytest.mark.slow


def test_movielens_as_it_is_downloaded(tmp_path: Path) -> None:
    home = tmp_path / "home"
    users = ["--train-users", "3", "--eval-users", "4"]
    deeper("run", "--home", home, *users, DEEPER_DOWNLOADS=str(real_data("raw") / "movielens"))
    warehouse = Warehouse(home / "warehouse.duckdb")
    windows = warehouse.load("rating_windows")
    assert set(windows["domain"]) == {"movielens"}
    assert windows.groupby("split")["user_id"].nunique().to_dict() == {"eval": 4, "train": 3}
    assert windows["title"].str.contains(r" \(\d{4}").mean() > 0.99
    kept = warehouse.load("raw_ratings")
    assert kept["categories"].str.contains("Comedy").any()
    table = warehouse.load("mae_table")
    assert set(table["domain"]) == {"movielens", "macro"}
    assert table["mae"].between(0, 2).all()
