"""Who may read a home: it holds people's ratings, their personas, and answers that were paid for.

The salt of hashed user ids is for the owner alone, whoever else may read the home.

A process has one umask. It is set for what is made in the home, and lifted where something is written for
others. Processes inherit it from the one that starts them.
"""

import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deeper_assets.method.exceptions import DeeperError

GROUP_AND_OTHERS, OTHERS = 0o077, 0o007

OURS = (
    *("warehouse.duckdb*", "journal.sqlite*", "settings.yaml*", "run.lock", "salt"),
    *("dagster", "models", "training", "scratch", "gpu", "texts"),
)
"""What a home holds. A folder may be given as a home that holds other things, too."""

UNMISTAKABLE = ("warehouse.duckdb*", "journal.sqlite*", "run.lock", "dagster")
"""Of these, what nobody else would call so."""

_umask_before: int | None = None


def keep_private(home: Path) -> None:
    """What this process makes from now on is for the owner alone; for the group, too, where the home is.

    A home that its owner has closed to others, and not to the group, is meant for the group.
    """
    global _umask_before  # noqa: PLW0603 - as there is one umask, there is one from before
    mode = home.stat().st_mode if home.is_dir() else 0
    chosen = mode & GROUP_AND_OTHERS if not mode & OTHERS else 0
    before = os.umask(GROUP_AND_OTHERS & ~chosen)
    if _umask_before is None:
        _umask_before = before


@contextmanager
def for_others() -> Iterator[None]:
    """What is made in here is not of the home: the umask that the process came with says who may read it."""
    kept = os.umask(0)
    os.umask(kept if _umask_before is None else _umask_before)
    try:
        yield
    finally:
        os.umask(kept)


def close_to_others(home: Path) -> None:
    """Makes a home private that is to be worked in, also one that is there and can be read by others.

    What is not ours is left as it is, and so are links. Where the system refuses, that is told.
    """
    with for_others():
        home.parent.mkdir(parents=True, exist_ok=True)
    if home.is_dir() and home.stat().st_mode & OTHERS:
        try:
            _close(home)
        except OSError as error:
            print(f"deeper: {home} stays readable for others: {error.strerror}", file=sys.stderr)
    keep_private(home)


def _close(home: Path) -> None:
    ours = [path for pattern in OURS for path in home.glob(pattern)]
    if set(home.iterdir()) <= set(ours) and not home.stat().st_mode & stat.S_ISVTX:
        _close_one(home)
    else:  # somebody's own folder, where `models` may be theirs
        ours = [path for pattern in UNMISTAKABLE for path in home.glob(pattern)]
    for path in ours:
        if path.is_symlink():
            continue
        _close_one(path)
        for folder, _, files in os.walk(path):  # links to folders are not followed
            _close_one(Path(folder))
            for name in files:
                _close_one(Path(folder, name))


def _close_one(path: Path) -> None:
    with suppress(FileNotFoundError):  # SQLite and DuckDB delete their logs
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & GROUP_AND_OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~GROUP_AND_OTHERS)


def salt_of(home: Path) -> str:
    """The secret that user ids of a home are hashed with; it is made once, and stays.

    Raises:
        DeeperError: the file of the salt holds none.
    """
    path = home / "salt"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f"salt.{secrets.token_hex(8)}")
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        with suppress(FileExistsError):  # another process was first: its salt is the one
            os.link(made, path)
        made.unlink()
    salt = path.read_text().strip()
    if not re.fullmatch("[0-9a-f]{64}", salt):
        raise DeeperError(
            f"{path} holds no salt; put back what stood there, or delete it: then the ids of all users"
            " change, and all is made anew"
        )
    if path.stat().st_mode & GROUP_AND_OTHERS:
        path.chmod(0o600)
    return salt
