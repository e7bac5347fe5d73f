"""Ratings of one's own, and then some more: `python -m deeper_assets_tests.benchmarks.appended`.

A CSV of 100,000 ratings goes to a table of personas in two commands, which are timed. Then 1,000 rows are
appended to it, later ratings of some users and ratings of new ones, and the second command goes again. Prints
what that made again, and whose rows changed. With `--served` the chat model is asked over HTTP (it is the
stand-in behind its server), so that the journal holds and counts its answers. `--no-training` leaves
out policies.
"""

import argparse
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd

from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.benchmarks.generated_files.log import write_log
from deeper_assets_tests.benchmarks.whole_runs import yardstick
from deeper_assets_tests.chat_server.process import chat_server
from deeper_assets_tests.command import command, environment

RATINGS = 100_000
OLD_USERS, LATER_RATINGS = 40, 20
"""Who gets later ratings, and how many each."""

NEW_USERS, FIRST_RATINGS = 4, 50
DAY = 86_400


def append(path: Path) -> None:
    """Adds 1,000 rows: later ratings of some users, and new users."""
    log = pd.read_csv(path)
    draw = random.Random(0)
    films = sorted(set(log["film"]))
    old = draw.sample(sorted(set(log["user_id"])), OLD_USERS)
    new = range(log["user_id"].max() + 1, log["user_id"].max() + 1 + NEW_USERS)
    last: int = log["watched_at"].max()
    rows = []
    for user, number in [(user, LATER_RATINGS) for user in old] + [(user, FIRST_RATINGS) for user in new]:
        for day, film in enumerate(draw.sample(films, number), start=1):
            rows.append((user, film, draw.randint(1, 10) / 2, last + day * DAY))
    pd.DataFrame(rows).to_csv(path, mode="a", header=False, index=False)


@dataclass(frozen=True)
class State:
    """What a home holds.

    Attributes:
        versions: table and partition → number and content of its version.
        rows: table → its rows, of tables by user.
        usage: asset → requests and hits.
    """

    versions: Mapping[tuple[str, str], tuple[int, str]]
    rows: Mapping[str, pd.DataFrame]
    usage: pd.DataFrame

    @classmethod
    def of(cls, home: Path) -> "State":
        """The state of a home that no run is at work in."""
        warehouse = Warehouse(home / "warehouse.duckdb")
        versions = {version.place: (version.version, version.content) for version in warehouse.current()}
        by_user = [
            name for name, table in TABLES.items() if "user_id" in map(attrgetter("name"), table.columns)
        ]
        usage = warehouse.load("chat_usage").groupby("asset")[["requests", "hits"]].sum()
        return cls(versions, {name: warehouse.load(name) for name in by_user}, usage)


def changed_users(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, set[str]]:
    """The users who are `new`, those who are `gone`, and those whose rows are `changed`, in any order."""

    def of_users(rows: pd.DataFrame) -> dict[str, list[int]]:
        hashes = pd.util.hash_pandas_object(rows.astype(str), index=False)
        return {str(user): sorted(each) for user, each in hashes.groupby(rows["user_id"])}

    one, other = of_users(before), of_users(after)
    return {
        "new": other.keys() - one.keys(),
        "gone": one.keys() - other.keys(),
        "changed": {user for user in one.keys() & other.keys() if one[user] != other[user]},
    }


def differences(before: State, after: State) -> pd.DataFrame:
    """A row a table: partitions, those made again, those with other rows; users, and `changed_users`."""
    rows: list[dict[str, Any]] = []
    for table in TABLES:
        places = [place for place in after.versions if place[0] == table]
        if not places:
            continue
        again = [place for place in places if after.versions[place] != before.versions.get(place)]
        content = {place: before.versions.get(place, (0, ""))[1] for place in again}
        other = [place for place in again if after.versions[place][1] != content[place]]
        row = {
            "table": table,
            "partitions": len(places),
            "made again": len(again),
            "with other rows": len(other),
        }
        if table in after.rows:
            row["users"] = after.rows[table]["user_id"].nunique()
            changed = changed_users(before.rows[table], after.rows[table])
            row |= {what: len(users) for what, users in changed.items()}
        rows.append(row)
    return pd.DataFrame(rows).astype(dict.fromkeys(["users", "new", "gone", "changed"], "Int64"))


def timed(*arguments: object, **variables: str) -> float:
    """Seconds of a command."""
    started = time.monotonic()
    done = subprocess.run(command(*arguments), env=variables, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"deeper {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
    print(f"{seconds:7.1f} s  deeper {' '.join(map(str, arguments))}", flush=True)
    return seconds


def main() -> None:
    """Parses the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratings", type=int, default=RATINGS)
    parser.add_argument("--served", action="store_true")
    parser.add_argument("--no-training", action="store_true")
    told = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="deeper-appended-"))
    log, profile, home = folder / "films.csv", folder / "films.yaml", folder / "home"
    write_log(told.ratings, log)
    variables = environment()
    del variables["DEEPER_SYNTHETIC_USERS"]
    if not told.no_training:
        del variables["DEEPER_TRAIN_RECIPES"]
    with ExitStack() as stack:
        if told.served:
            server = stack.enter_context(chat_server())
            variables |= {"DEEPER_CHAT__ENGINE": "openai", "DEEPER_CHAT__MODEL": "local"}
            variables |= {"DEEPER_CHAT__BASE_URL": server.url, "DEEPER_CHAT__CONCURRENCY": "8"}
        print(f"{told.ratings:,} ratings, {log.stat().st_size / 1e6:.1f} MB (loop {yardstick():.1f} s)")
        timed("init", log, "--profile", profile, **variables)
        whole = timed("run", "--profile", profile, "--home", home, **variables)
        before = State.of(home)
        append(log)
        again = timed("run", "--profile", profile, "--home", home, **variables)
        after = State.of(home)
        nothing = timed("run", "--profile", profile, "--home", home, **variables)
    print(f"again {again / whole:.2f} of the whole run; with nothing appended {nothing / whole:.2f}")
    print(differences(before, after).to_string(index=False, na_rep="-"))
    if told.served:
        asked = after.usage.sub(before.usage, fill_value=0).astype(int)
        asked = asked.rename(columns={"requests": "asked anew", "hits": "from the journal"})
        print(asked.join(before.usage["requests"].rename("asked in the whole run")).to_string())
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
