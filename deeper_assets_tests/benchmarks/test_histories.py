"""The three ways from files to windows give the same rows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from deeper_assets_tests.benchmarks.generated_files import write
from deeper_assets_tests.benchmarks.histories import Measured, as_table, plot
from deeper_assets_tests.benchmarks.straightforward import ways

COLUMNS = {
    ways.WINDOWS: 'user_id, split, "window", place, item_id, title, rating, rated_at',
    ways.REJECTED: 'user_id, "row", file, line, reason, ratings',
    ways.KEPT: 'user_id, "row", file, line, item_id, title, rating_text, rating, rated_at, position',
}

SPOILED = (
    "1,1,0,900000000",  # outside_scale
    "1,2,2.3,900000001",
    "2,1,four,900000002",  # not_a_number
    "2,999999,4.0,900000003",  # empty_title
    "3,1,4.0,",  # unreadable_time
    ",1,4.0,900000004",  # missing_user
    "new,7,4.0,900000005",
    "new,7,4.0,900000005",  # duplicate_row
    "new,7,4.0,900000005",
    "new,7,4.5,900000005",
)


REASONS = {
    "movielens": {"outside_scale", "not_a_number", "unreadable_time", "missing_user"},
    "amazon_2018": {"unusable_text"},
}
"""For which ratings are rejected, beside those of both formats."""


def read(query: str) -> list[tuple[Any, ...]]:
    """What DuckDB answers."""
    return duckdb.connect().execute(query).fetchall()


def spoil(ratings: Path) -> None:
    """Adds lines that cannot be used to ratings.csv, and doubles a rating of a user who stays in."""
    with ratings.open("a", newline="") as file:
        file.writelines(f"{line}\r\n" for line in (*SPOILED, ratings.read_text().splitlines()[7]))


def go(way: str, format_: str, files: Path, target: Path) -> None:
    (target / way).mkdir(exist_ok=True)
    ways.WAYS[way](format_, files, target / way)


def rows(target: Path, way: str, relation: str) -> list[tuple[Any, ...]]:
    return read(f"SELECT {COLUMNS[relation]} FROM '{target / way / relation}.parquet' ORDER BY ALL")


@pytest.mark.parametrize("format_", sorted(ways.DOMAINS))
def test_every_way_gives_the_same_rows(format_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "USERS_A_SPLIT", 20)
    files = tmp_path / "files"
    write(format_, 60_000, files)
    for way in ways.WAYS:
        go(way, format_, files, tmp_path)
    windows = rows(tmp_path, "this project", ways.WINDOWS)
    assert len(windows) > 500
    assert {row[1] for row in windows} == {"train", "eval"}
    assert windows == rows(tmp_path, "bare DuckDB", ways.WINDOWS)
    assert windows == rows(tmp_path, "pandas", ways.WINDOWS)

    if format_ == "movielens":  # the published file has no line that cannot be used
        spoil(files / "ratings.csv")
        for way in ("this project", "bare DuckDB"):
            go(way, format_, files, tmp_path)
    for relation in COLUMNS:
        assert rows(tmp_path, "this project", relation) == rows(tmp_path, "bare DuckDB", relation)
    reasons = {row[4] for row in rows(tmp_path, "bare DuckDB", ways.REJECTED)}
    assert reasons >= {"too_few_windows", "duplicate_row", "empty_title"} | REASONS[format_]


def test_a_way_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    write("movielens", 5_000, tmp_path)
    (tmp_path / "target").mkdir()
    command = [sys.executable, "-m", ways.__name__, "pandas", "movielens", tmp_path, tmp_path / "target"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    one = Measured(**json.loads(done.stdout))
    [(rows,)] = read(f"SELECT count(*) FROM '{tmp_path}/target/windows.parquet'")
    assert one.rows == rows > 500
    assert 50 < one.peak < 2_000
    assert 0 < one.seconds < 60


def test_figures_are_medians_and_ratios(tmp_path: Path) -> None:
    figures = {
        (2_000_000, "this project"): [Measured(3.0, 700, 5), Measured(1.0, 800, 5), Measured(2.0, 750, 5)],
        (2_000_000, "bare DuckDB"): [Measured(1.6, 500, 5)],
        (2_000_000, "pandas"): [Measured(16.0, 5_000, 5)],
        (20_000_000, "this project"): [Measured(21.0, 900, 5)],
        (20_000_000, "bare DuckDB"): [Measured(20.0, 1_000, 5)],
    }
    assert as_table(figures).splitlines()[2:] == [
        "| 2 | this project | 2.0 (1.0 to 3.0) | 1.25 | 800 | 5 |",
        "| 2 | bare DuckDB | 1.6 (1.6 to 1.6) | 1.00 | 500 | 5 |",
        "| 2 | pandas | 16.0 (16.0 to 16.0) | 10.00 | 5,000 | 5 |",
        "| 20 | this project | 21.0 (21.0 to 21.0) | 1.05 | 900 | 5 |",
        "| 20 | bare DuckDB | 20.0 (20.0 to 20.0) | 1.00 | 1,000 | 5 |",
    ]
    plot(figures, "movielens", tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    assert drawn.count("<!-- this project -->") == 1
