"""Helpers of these tests: read what a source wrote, find the real data, run a Postgres."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from deeper_assets.method.cutting import KEPT, REJECTED, WINDOWS, cut_histories
from deeper_assets.method.domains import Domain
from deeper_assets.method.windows import Accounting, UserSampling, WindowRules
from deeper_assets.sources.shape import ReadReport, Source, Workshop

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"


@contextmanager
def loaded(source: Source, folder: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, ReadReport]]:
    """A connection with the relation `ratings` of a source."""
    with Workshop(folder / "workshop", "1 GB").open() as (connection, temporary):
        yield connection, source.load(connection, temporary)


def written(source: Source, folder: Path) -> tuple[list[dict[str, Any]], ReadReport]:
    """The ratings that a source gives, as dicts, by row and with their positions; and its report."""
    with loaded(source, folder) as (connection, report):
        position = "position" if report.placed else IN_ORDER
        answer = connection.execute(
            f"SELECT * REPLACE (CASE WHEN has_place THEN {position} END AS position)"
            ' FROM ratings ORDER BY "row"'
        )
        names = [name for name, *_ in answer.description]
        rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    assert len({row["row"] for row in rows}) == len(rows)
    return rows, report


IN_ORDER = """
row_number() OVER (PARTITION BY user_id, has_place ORDER BY order_at, rated_at, "row") - 1
"""
"""A rating's place in its user's time order, as the sources' tests look at it."""


@dataclass(frozen=True)
class Cut:
    """What became of ratings: rows of raw_ratings, rejected_ratings and rating_windows, and accounts."""

    kept: pd.DataFrame
    rejected: pd.DataFrame
    windows: pd.DataFrame
    accounting: Accounting


_ORDER = {KEPT: '"row"', REJECTED: '"row" NULLS LAST, user_id', WINDOWS: 'user_id, "window", place'}


def cut(
    connection: duckdb.DuckDBPyConnection,
    domain: Domain,
    rules: WindowRules,
    sampling: UserSampling,
    placed: bool,
) -> Cut:
    """Cut the relation `ratings` of a connection."""
    accounting = cut_histories(connection, domain, rules, sampling, placed)
    frames = [connection.execute(f"FROM {name} ORDER BY {by}").df() for name, by in _ORDER.items()]
    return Cut(*frames, accounting)


def cut_source(
    source: Source, folder: Path, rules: WindowRules | None = None, sampling: UserSampling | None = None
) -> Cut:
    """Read and cut the ratings of a source."""
    with loaded(source, folder) as (connection, report):
        return cut(
            connection, source.domain, rules or WindowRules(), sampling or UserSampling(), report.placed
        )


def frame(source: Source, folder: Path) -> pd.DataFrame:
    """The ratings that a source gives, as a frame."""
    with loaded(source, folder) as (connection, _):
        return connection.execute('FROM ratings ORDER BY "row"').df()


def picked(rows: list[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    """Some columns of rows."""
    return [tuple(row[column] for column in columns) for row in rows]


def real_data(part: str) -> Path:
    """A folder of the real data; the test is skipped where it is not there."""
    folder = Path(os.environ.get("DEEPER_TEST_DATA", _BESIDE)) / part
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set DEEPER_TEST_DATA to the folder that holds {part}")
    return folder
