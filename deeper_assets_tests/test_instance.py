"""The SQLite files of Dagster's instance: what is kept open, and how often the disk is waited for."""

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy

from deeper_assets.instance import open_instance
from deeper_assets.ui import databases_open


def write(path: Path) -> None:
    """One short visit, as Dagster makes for every event."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS visits (number INTEGER)")
        connection.execute("INSERT INTO visits VALUES (1)")


def test_while_they_are_open_no_visit_folds_the_log_into_the_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with open_instance(home):
        events = home / "dagster" / "event_log.db"
        runs = home / "dagster" / "history" / "runs.db"
        logs = [path.with_name(f"{path.name}-wal") for path in (events, runs)]
        write(events)
        assert not logs[0].exists()  # the last visitor folded it in
        with databases_open(home):
            write(events)
            write(runs)
            assert all(log.stat().st_size > 0 for log in logs)
        assert not any(log.exists() for log in logs)
    with closing(sqlite3.connect(events)) as connection:
        assert connection.execute("SELECT count(*) FROM visits").fetchone() == (2,)


def test_a_commit_of_dagsters_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'some.db'}")
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("PRAGMA synchronous")) == 1  # NORMAL; FULL is 2
