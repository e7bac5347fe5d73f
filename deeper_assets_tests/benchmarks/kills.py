"""A run that is killed three times: `python -m deeper_assets_tests.benchmarks.kills`.

With SIGKILL: while it samples, while it predicts for rewards, and while it trains; the same command goes on.
Prints how long that and an undisturbed run took, and whether all rows of all tables are the same.
`--data FOLDER` takes the published files.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.command import command, environment


def run(home: Path, arguments: Sequence[str], moments: Sequence[Callable[[], bool]] = ()) -> float:
    """Seconds of a run from a fresh home. At each of these moments it is killed, and started again."""
    variables = environment(DEEPER_TRAIN_RECIPES='["balanced"]')
    call = command("run", "--home", home, *arguments)
    started = time.monotonic()
    for reached in [*moments, None]:
        process = subprocess.Popen(call, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while reached is not None and not reached():
            if process.poll() is not None:
                raise SystemExit("the run ended before it could be killed")
            time.sleep(0.1)
        if reached is not None:
            process.kill()
        if process.wait() and reached is None:
            raise SystemExit(f"{' '.join(call)}: exit {process.returncode}")
    return time.monotonic() - started


def stored(home: Path, table: str, partitions: int) -> bool:
    """Whether so many partitions of a table are there."""
    path = home / "warehouse.duckdb"
    return path.exists() and len(Warehouse(path).current(table)) >= partitions


def trains(home: Path) -> bool:
    """Whether a checkpoint of Model 1 is there."""
    return any(home.glob("training/balanced_1/checkpoints/**/complete"))


def rows(home: Path, table: str) -> pd.DataFrame:
    """A table, in an order that does not depend on when a row was written."""
    frame = Warehouse(home / "warehouse.duckdb").load(table)
    return frame.sort_values(list(TABLES[table].partition + TABLES[table].key), ignore_index=True)


def main() -> None:
    """Parses the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of the published files")
    parser.add_argument("--train-users", default="20")
    parser.add_argument("--eval-users", default="50")
    given = parser.parse_args()
    arguments = ["--train-users", given.train_users, "--eval-users", given.eval_users]
    arguments += ["--data", given.data] if given.data else []
    folder = Path(tempfile.mkdtemp(prefix="deeper-benchmark-"))
    killed, undisturbed = folder / "killed", folder / "undisturbed"
    moments = [
        partial(stored, killed, "contexts_1", 3),  # it samples: candidates_1 of some domains are missing
        partial(stored, killed, "candidates_1", 4),  # it predicts for rewards
        partial(trains, killed),
    ]
    print(f"undisturbed {run(undisturbed, arguments):.0f} s, killed {run(killed, arguments, moments):.0f} s")
    different = []
    for table in TABLES:
        one, other = rows(undisturbed, table), rows(killed, table)
        different += [] if one.equals(other) else [table]
        print(f"  {table:<24}{len(one):>10,} rows  {'the same' if one.equals(other) else 'DIFFERENT'}")
    raise SystemExit(f"different: {', '.join(different)}" if different else 0)


if __name__ == "__main__":
    main()
