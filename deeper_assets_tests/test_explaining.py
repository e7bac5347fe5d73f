"""What is said of a damaged file of a home, of one that cannot be written, and of any other error."""

import errno
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy

from deeper_assets.explaining import explained
from deeper_assets.instance import open_instance
from deeper_assets.method.exceptions import DeeperError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a Dagster instance that is whole."""
    with open_instance(tmp_path) as instance:
        instance.get_runs()
    return tmp_path


def error_of(home: Path) -> Exception:
    """What reading the instance's runs raises."""
    with pytest.raises(sqlalchemy.exc.DatabaseError) as raised, open_instance(home) as instance:
        instance.get_runs()
    return raised.value


def test_a_damaged_file_of_dagsters_is_named_with_what_is_lost(home: Path) -> None:
    runs = home / "dagster" / "history" / "runs.db"
    content = runs.read_bytes()
    runs.with_name("runs.db-wal").unlink(missing_ok=True)
    runs.write_bytes(b"\xff" * 100 + content[100:])
    error = error_of(home)
    assert "file is not a database" in str(error)
    assert explained(error, home) == (
        f"{runs} is damaged (file is not a database): with it goes the history of runs that the UI shows; the"
        f" tables are in warehouse.duckdb. Put a copy in its place; or move {home}/dagster away, and"
        f" `deeper run --home {home}` begins a new history"
    )


def test_where_every_file_is_whole_the_error_stands(home: Path) -> None:
    assert (
        explained(sqlite3.OperationalError("no such table: x"), home) == "OperationalError: no such table: x"
    )


def test_what_cannot_be_written_is_named_with_what_still_works(home: Path) -> None:
    error = OSError(errno.EROFS, "Read-only file system", str(home / "run.lock"))
    assert explained(error, home) == (
        f"{home}/run.lock cannot be written (Read-only file system): a run writes to {home}; make it writable"
        " and make room on its disk, or give --home another folder (`deeper report`, `lineage`, `journal` and"
        " `rejects` work all the same)"
    )
    elsewhere = PermissionError(errno.EACCES, "Permission denied", "/sys/report.html")
    assert explained(elsewhere, home) == (
        "/sys/report.html cannot be written (Permission denied); name another file"
    )
    assert explained(FileNotFoundError(errno.ENOENT, "No such file", "x"), home).startswith(
        "FileNotFoundError"
    )


def test_errors_for_people_and_errors_of_no_home_stay_as_they_are(home: Path) -> None:
    assert explained(DeeperError("take another"), home) == "take another"
    with pytest.raises(DeeperError) as raised:
        raise DeeperError("it is busy") from sqlite3.OperationalError("database is locked")
    assert explained(raised.value, home) == "it is busy"
    assert explained(ValueError("a\nb"), None) == "ValueError: a b"
