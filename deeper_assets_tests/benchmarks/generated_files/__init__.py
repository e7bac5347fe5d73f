"""Files in the formats in which ratings are published, of any size, with the real files' shape and defects.

What could be measured on a real file is measured on it, and the figure stands beside its name:
ml-latest-small, and AMAZON_FASHION_5 of the 5-core reviews of 2018. Other rates are chosen, and say so.

The same number of rows and the same seed give the same files, byte by byte, with the same version of DuckDB:
DuckDB writes them, in bounded memory, and each random number is a hash of what it is for.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

from deeper_assets_tests.benchmarks.generated_files.amazon import write_amazon_2018, write_amazon_2023
from deeper_assets_tests.benchmarks.generated_files.food import write_food
from deeper_assets_tests.benchmarks.generated_files.google_local import write_google_local
from deeper_assets_tests.benchmarks.generated_files.movielens import write_movielens
from deeper_assets_tests.benchmarks.generated_files.writing import generator

FORMATS: Mapping[str, Callable[[duckdb.DuckDBPyConnection, int, Path], None]] = {
    "movielens": write_movielens,
    "amazon_2018": write_amazon_2018,
    "amazon_2023": write_amazon_2023,
    "google_local": write_google_local,
    "food": write_food,
}


def write(format_: str, rows: int, folder: Path, seed: int = 0) -> None:
    """Writes the files of one of `FORMATS` with so many ratings or lines into a folder."""
    with generator(folder, seed) as connection:
        FORMATS[format_](connection, rows, folder)
