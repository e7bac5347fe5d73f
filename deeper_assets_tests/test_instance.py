"""The SQLite files of Dagster's instance: what is kept open, and how often the disk is waited for."""

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy

from deeper_assets.instance import open_instance
from deeper_assets.resources import Experiment
from deeper_assets.running import run_everything
from deeper_assets.settings import Settings
from deeper_assets.ui import databases_open

NORMAL, FULL = 1, 2
"""Of SQLite's setting `synchronous`."""


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


def test_a_run_of_everything_keeps_them_open(tmp_path: Path) -> None:
    """Seen between its units, when nothing else has them open."""
    log = tmp_path / "dagster" / "event_log.db-wal"
    seen = []
    settings = Settings(train_recipes=[], evaluate=["book"], synthetic_users=12, eval_users=2, processes=1)
    run_everything(Experiment(tmp_path, settings), lambda *_: seen.append(log.exists()))
    assert seen and all(seen)
    assert not log.exists()


def test_a_file_that_cannot_be_opened_is_left_to_whoever_needs_it(tmp_path: Path) -> None:
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "event_log.db").write_text("no database, but long enough to look like one" * 99)
    with databases_open(tmp_path):
        pass


def test_a_commit_of_dagsters_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    """Where there is a write-ahead log; any other file could break when the power is cut."""
    with open_instance(tmp_path) as instance, instance.run_storage.connect() as connection:
        assert connection.scalar(sqlalchemy.text("PRAGMA synchronous")) == NORMAL
    other = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'without.db'}")
    with other.connect() as connection:
        assert connection.scalar(sqlalchemy.text("PRAGMA synchronous")) == FULL
