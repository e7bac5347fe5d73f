"""A small table with every type, and frames for it and for the real tables that the tests write."""

from collections.abc import Mapping
from pathlib import Path

import duckdb
import pandas as pd

from deeper_assets.store.columns import Column, Table
from deeper_assets.store.ledger import Ingredients, Stamp

SAMPLES = Table(
    "samples",
    (
        Column("batch", "partition", "VARCHAR"),
        Column("place", "0-based", "INTEGER", check="place >= 0"),
        Column("label", "any text", "VARCHAR", nullable=True),
        Column("count", "any number", "INTEGER", nullable=True),
        Column("big", "any large number", "BIGINT", nullable=True),
        Column("score", "any finite number", "DOUBLE", nullable=True),
        Column("data", "any bytes", "BLOB", nullable=True),
        Column("seen_at", "UTC", "TIMESTAMP", nullable=True),
    ),
    key=("batch", "place"),
    partition=("batch",),
)


def stamp(run_id: str = "run", code_version: str = "1", **settings: object) -> Stamp:
    return Stamp(run_id, Ingredients(code_version, settings))


def samples(batch: str = "a", rows: int = 3, **changed: object) -> pd.DataFrame:
    """Rows 0 … rows − 1 of a batch, with some columns changed."""
    frame = pd.DataFrame(
        {
            "batch": batch,
            "place": range(rows),
            "label": [f"label {place}" for place in range(rows)],
            "count": [10 * place for place in range(rows)],
            "big": [2**53 + 1 + place for place in range(rows)],
            "score": [place / 2 for place in range(rows)],
            "data": [bytes([place % 256, 0, 255]) for place in range(rows)],
            "seen_at": pd.date_range("2024-01-01", periods=rows),
        }
    )
    return frame.assign(**changed)


def errors(partition: Mapping[str, str], generation: int, users: int) -> pd.DataFrame:
    """Rows of round_errors that all hold their generation, as the error."""
    return pd.DataFrame(
        {
            **partition,
            "user_id": [f"user {number}" for number in range(users)],
            "round": 0,
            "window": 1,
            "items": 10,
            "error": float(generation),
            "pairs": 3,
            "pairs_right": 2,
            "pairs_tied": 1,
            "kept": 0,
        },
        index=range(users),
    )


def write_parquet(path: Path, select: str) -> Path:
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return path
