"""From files to windows in one process: `python -m deeper_assets_tests.benchmarks.straightforward.ways`.

Prints seconds (without imports), highest memory and the number of rows of the windows, as JSON.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb

from deeper_assets.method import cutting
from deeper_assets.method.domains import find_domain
from deeper_assets.method.sql import quoted
from deeper_assets.method.windows import UserSampling, WindowRules
from deeper_assets.sources.originals import find_original
from deeper_assets.sources.shape import Workshop
from deeper_assets_tests.memory import highest_memory

USERS_A_SPLIT = 1_500
MEMORY = "2 GB"
WINDOWS, REJECTED, KEPT = cutting.WINDOWS, cutting.REJECTED, cutting.KEPT

DOMAINS: Mapping[str, str] = {"movielens": "movielens", "amazon_2018": "movies_tv"}
"""Format → domain."""


def by_this_project(format_: str, folder: Path, target: Path) -> None:
    """The three files from a source, as the asset makes them."""
    source = find_original(find_domain(DOMAINS[format_]), folder)
    assert source is not None, f"{folder} holds no files of {format_}"
    sampling = UserSampling(train_users=USERS_A_SPLIT, eval_users=USERS_A_SPLIT)
    with Workshop(target / "scratch", MEMORY).open() as (connection, temporary):
        report = source.load(connection, temporary)
        cutting.cut_histories(connection, source.domain, WindowRules(), sampling, report.placed)
        _write(connection, target)


def by_bare_statements(format_: str, folder: Path, target: Path) -> None:
    """The three files by `<format>.sql` and `windows.sql`."""
    domain = find_domain(DOMAINS[format_])
    variables = {
        "folder": str(folder),
        "domain": domain.name,
        "step": domain.scale.step,
        "users_a_split": USERS_A_SPLIT,
    }
    config: dict[str, Any] = {"temp_directory": str(target / "spill"), "memory_limit": MEMORY}
    with duckdb.connect(":memory:", config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, value in variables.items():
            connection.execute(f"SET VARIABLE {name} = ?", [value])
        for file in (f"{format_}.sql", "windows.sql"):
            connection.execute(Path(__file__).with_name(file).read_text())
        _write(connection, target)


def by_pandas(format_: str, folder: Path, target: Path) -> None:
    """The file of the windows alone."""
    from deeper_assets_tests.benchmarks.straightforward import pandas_script

    script = {"movielens": pandas_script.movielens, "amazon_2018": pandas_script.amazon_2018}[format_]
    script(folder, USERS_A_SPLIT).to_parquet(target / f"{WINDOWS}.parquet")


def _write(connection: duckdb.DuckDBPyConnection, target: Path) -> None:
    for relation in (WINDOWS, REJECTED, KEPT):
        file = target / f"{relation}.parquet"
        connection.execute(f"COPY {relation} TO {quoted(file)} (FORMAT parquet)")


WAYS: Mapping[str, Callable[[str, Path, Path], None]] = {
    "this project": by_this_project,
    "bare DuckDB": by_bare_statements,
    "pandas": by_pandas,
}


def main() -> None:
    """Goes one way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=sorted(WAYS))
    parser.add_argument("format", choices=sorted(DOMAINS))
    parser.add_argument("folder", type=Path, help="of the generated files")
    parser.add_argument("target", type=Path, help="an empty folder for Parquet files")
    told = parser.parse_args()
    if told.way == "pandas":
        import_module("pandas")
    started = time.perf_counter()
    WAYS[told.way](told.format, told.folder, told.target)
    seconds = time.perf_counter() - started
    windows = quoted(told.target / f"{WINDOWS}.parquet")
    [(rows,)] = duckdb.connect().execute(f"SELECT count(*) FROM {windows}").fetchall()
    print(json.dumps({"seconds": seconds, "peak": highest_memory() / 1e6, "rows": rows}))


if __name__ == "__main__":
    main()
