"""What a database or a system error means: the file in the home folder, what is lost with it, the way out.

The warehouse and the journal say that of themselves; the files here are Dagster's.
"""

import errno
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from deeper_assets.method.exceptions import one_line

READING = "`deeper report`, `lineage`, `journal` and `rejects` work all the same"

_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT}


def explained(error: BaseException, home: Path | None) -> str:
    """An error in one readable line, which names a damaged file of Dagster's, or a file not writable.

    Args:
        error: of any kind.
        home: the folder that was worked in, where that is known.
    """
    if home is None:
        return one_line(error)
    if any(isinstance(one, sqlite3.DatabaseError) for one in _causes(error)):
        damaged = [text for path in _sqlite_files(home) if (text := _damage(path, home))]
        return "; ".join(damaged) or one_line(error)
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE and error.filename is not None:
        if not Path(error.filename).absolute().is_relative_to(home):
            return f"{error.filename} cannot be written ({error.strerror}); name another file"
        return (
            f"{error.filename} cannot be written ({error.strerror}): a run writes to {home}; make it writable"
            f" and make room on its disk, or give --home another folder ({READING})"
        )
    return one_line(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it was raised from; SQLAlchemy keeps the driver's as `orig`."""
    while error is not None:
        yield error
        error = getattr(error, "orig", None) or error.__cause__


def _sqlite_files(home: Path) -> list[Path]:
    folder = home / "dagster"
    return sorted((*folder.glob("*.db"), *folder.glob("*/*.db")))


def _damage(path: Path, home: Path) -> str | None:
    """What is wrong with a file, what is lost, and what to do; None for a file that is whole or not there."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:  # busy, or in a folder where SQLite may not put its log
        return None
    except sqlite3.DatabaseError as error:
        answer = str(error)
    if answer == "ok":
        return None
    again = f"`deeper run --home {shlex.quote(str(home))}`"
    return (
        f"{path} is damaged ({' '.join(answer.split())}): with it goes the history of runs that the UI shows;"
        f" the tables are in warehouse.duckdb. Put a copy in its place; or move {home / 'dagster'} away, and"
        f" {again} begins a new history"
    )
