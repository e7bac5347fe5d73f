"""Folders that a process holds while it works in them; whoever comes next deletes those of the dead.

A folder is held by a lock on a file in it. The kernel releases the lock when the process ends, however it
does. So a folder that nobody holds is left over, whatever its age.
"""

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG = logging.getLogger(__name__)

CUTTING = "cutting-"
"""How the names of folders begin in which histories are cut."""

_HANDED = "handed-"
"""How the names of folders begin with files that are to be stored."""

_HELD = "held"


@contextmanager
def cutting_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent`, for this user alone, that is held in the body and deleted after it."""
    folder, lock = _made(parent, CUTTING)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _let_go(lock)


def handing_folder(parent: Path) -> Path:
    """A folder in `parent`, no more open than that, that this process holds until it ends."""
    key = parent.absolute(), os.getpid()
    if key not in _handing or not _handing[key][0].exists():
        _handing[key] = folder, _ = _made(parent, _HANDED)  # its lock goes with the process
        folder.chmod(0o750 & parent.stat().st_mode)  # it may stay until the next sweep, as open as its home
    return _handing[key][0]


_handing: dict[tuple[Path, int], tuple[Path, int]] = {}


@contextmanager
def turn(parent: Path) -> Iterator[None]:
    """Has one body at a time run, of all processes; the others wait, and say so."""
    parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(parent / "turn.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _taken(lock):
            LOG.info("other histories are being cut in %s; waiting for them", parent)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        _let_go(lock)


def sweep(parent: Path) -> None:
    """Deletes the folders that nobody holds."""
    if parent.exists():
        with _alone(parent):
            _sweep(parent)


def leave(parent: Path) -> None:
    """Deletes what this process has handed over, all of which is stored by now, and sweeps."""
    if (own := _handing.pop((parent.absolute(), os.getpid()), None)) is not None:
        shutil.rmtree(own[0], ignore_errors=True)
        _let_go(own[1])
    sweep(parent)


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    """A folder, and its lock, which this process holds. Those that nobody holds are deleted."""
    parent.mkdir(parents=True, exist_ok=True)
    with _alone(parent):
        _sweep(parent)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = os.open(folder / _HELD, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """No folder is made by one process while another one sweeps: it would not be held yet."""
    lock = os.open(parent / "sweep.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        _let_go(lock)


def _sweep(parent: Path) -> None:
    for folder in (*parent.glob(f"{CUTTING}*"), *parent.glob(f"{_HANDED}*")):
        try:
            lock = os.open(folder / _HELD, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            continue  # it is just being deleted, or somebody else's
        try:
            if _taken(lock):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            _let_go(lock)


def _taken(lock: int) -> bool:
    """Whether the lock could be taken at once."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _let_go(lock: int) -> None:
    fcntl.flock(lock, fcntl.LOCK_UN)  # closing alone would leave the lock to a forked child
    os.close(lock)
