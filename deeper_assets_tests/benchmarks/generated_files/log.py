"""A log of one's own, in one file: ratings of MovieLens' shape, each with its film's title."""

import tempfile
from pathlib import Path

import duckdb

from deeper_assets.method.sql import quoted
from deeper_assets_tests.benchmarks.generated_files import write


def write_log(ratings: int, path: Path, seed: int = 0) -> None:
    """Writes a log of films that users have watched: user_id, film, rating, watched_at (epoch seconds)."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        write("movielens", ratings, Path(folder), seed)
        duckdb.connect().execute(f"""
            COPY (
                SELECT userId AS user_id, title AS film, rating, "timestamp" AS watched_at
                FROM {quoted(f"{folder}/ratings.csv")} JOIN {quoted(f"{folder}/movies.csv")} USING (movieId)
                ORDER BY user_id, watched_at, film
            ) TO {quoted(path)} (HEADER)""")
