"""Helpers of these tests: read what a source wrote, find the real data, run a Postgres."""

import os
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from deeper_assets.sources.shape import ReadReport, Source

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"


def written(source: Source, folder: Path) -> tuple[list[dict[str, Any]], ReadReport]:
    """The rows a source writes, as dicts, and its report."""
    report = source.write_raw_ratings(folder / "raw.parquet")
    answer = duckdb.connect().execute(f"FROM read_parquet('{folder / 'raw.parquet'}')")
    names = [name for name, *_ in answer.description]
    rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    assert [row["row"] for row in rows] == list(range(report.rows))
    return rows, report


def frame(source: Source, folder: Path) -> pd.DataFrame:
    """The rows a source writes, as the frame that assets get."""
    source.write_raw_ratings(folder / "raw.parquet")
    return duckdb.connect().execute(f"FROM read_parquet('{folder / 'raw.parquet'}')").df()


def picked(rows: list[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    """Some columns of rows."""
    return [tuple(row[column] for column in columns) for row in rows]


def real_data(part: str) -> Path:
    """A folder of the real data; the test is skipped where it is not there."""
    folder = Path(os.environ.get("DEEPER_TEST_DATA", _BESIDE)) / part
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set DEEPER_TEST_DATA to the folder that holds {part}")
    return folder
