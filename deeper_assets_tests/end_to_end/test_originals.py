"""An original data set through the whole graph."""

import subprocess
import sys
from pathlib import Path

import pytest

from deeper_assets.instance import open_instance
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import deeper, environment
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


def test_the_progress_of_a_long_reading_is_told(tmp_path: Path) -> None:
    """At the terminal, and in the page of the run."""
    home = tmp_path / "home"
    run = (
        "import sys; from deeper_assets.sources import streams; from deeper_assets.cli import main; "
        "streams.TELLS_EVERY = 0; sys.exit(main())"
    )
    arguments = ["run", "--home", str(home), "--train-users", "2", "--eval-users", "2"]
    downloads = str(real_data("raw") / "movielens")
    variables = environment(DEEPER_DOWNLOADS=downloads, DEEPER_PROCESSES="1")
    done = subprocess.run(
        [sys.executable, "-c", run, *arguments], capture_output=True, text=True, env=variables, check=True
    )
    told = "ratings.csv: 1.05MB of 2.48MB read, about 00:00 left"
    assert done.stderr.count(told) == 1
    with open_instance(home) as instance:
        messages = [log.user_message for run in instance.get_runs() for log in instance.all_logs(run.run_id)]
    assert messages.count(told) == 1
