"""Who may have the warehouse's file open, and when: readers together, or one writer alone.

DuckDB has a lock of its own, and it is not enough: eight processes that opened a file, inserted a row,
committed and closed lost 2 of 569 rows without an error (DuckDB 2.0.0), as one opened while another closed.
DuckDB's lock also belongs to a whole process, whose threads take it from one another. So whoever uses the
warehouse holds a lock of ours, from before the file is opened until it is closed.
"""

import errno
import fcntl
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from deeper_assets.method.exceptions import DeeperError, first_line

Result = TypeVar("Result")


@dataclass(frozen=True)
class Turns:
    """Turns at the file at `path`, waited for up to `timeout` seconds."""

    path: Path
    timeout: float

    @contextmanager
    def turn(self, writing: bool) -> Iterator[None]:
        """A turn, together with other readers or alone.

        Raises:
            DeeperError: others have held the file for all of `timeout`, or the lock files cannot be written.
        """
        with ExitStack() as held:
            # Without the queue, readers that overlap would keep writers out for long.
            with self._lock("queue", fcntl.LOCK_EX, writing):
                held.enter_context(self._lock("lock", fcntl.LOCK_EX if writing else fcntl.LOCK_SH, writing))
            yield

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Turns an error of DuckDB or the system about opening the file into a DeeperError that says why."""
        try:
            yield
        except (duckdb.Error, OSError) as error:
            if isinstance(error, duckdb.Error) and is_damage(error):
                raise self.damaged(error) from error
            if not _is_lock_conflict(error):
                raise self._cannot_open(error) from error
            named = re.search(r"\(PID (\d+)\)", str(error))
            raise self._held(_process(named[1] if named else str(os.getpid()))) from error

    def patiently(self, function: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """Calls the function again, up to `timeout`, for as long as another has the file."""
        retrying = Retrying(
            retry=retry_if_exception(_is_lock_conflict),
            stop=stop_after_delay(self.timeout),
            wait=wait_random(0.005, 0.05),
            reraise=True,
        )
        return retrying(function, *arguments, **named)

    def damaged(self, error: BaseException) -> DeeperError:
        """The error of a file whose bytes are not what DuckDB wrote."""
        again = f"`deeper run --home {shlex.quote(str(self.path.parent))}`"
        return DeeperError(
            f"the warehouse {self.path} is damaged ({first_line(error)}): with it go all tables. Put a copy"
            f" in its place; or move it away, and {again} makes them again (answers of a chat model that the"
            " journal holds are not paid for again)"
        )

    @contextmanager
    def _lock(self, suffix: str, kind: int, writing: bool) -> Iterator[None]:
        file = self.path.with_name(f"{self.path.name}.{suffix}")
        try:
            descriptor, writable = self._opened(file, writing)
        except OSError as error:
            raise self._cannot_open(error) from error
        if descriptor is None:
            yield
            return
        try:
            try:
                self.patiently(fcntl.flock, descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = self.path.with_name(f"{self.path.name}.lock")
                pid = holder.read_text().strip() if holder.exists() else ""
                raise self._held(_process(pid)) from error
            if writable:
                os.pwrite(descriptor, f"{os.getpid():<20}".encode(), 0)
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing alone would leave the lock to a forked child
            os.close(descriptor)

    def _opened(self, file: Path, writing: bool) -> tuple[int | None, bool]:
        """A lock file, and whether it can be written; None where a reader may not make one.

        A reader of a folder that it cannot write to shares the writers' lock all the same, if there is one.
        """
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            return os.open(file, os.O_RDWR | os.O_CREAT, 0o666), True
        except OSError as error:
            if writing or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
        try:
            return os.open(file, os.O_RDONLY), False
        except FileNotFoundError:
            return None, False

    def _held(self, by: str) -> DeeperError:
        return DeeperError(
            f"{self.path} is held by {by} and was not released within {self.timeout:g} s; wait for it or"
            " end it, or raise lock_timeout (DEEPER_LOCK_TIMEOUT, seconds)"
        )

    def _cannot_open(self, error: BaseException) -> DeeperError:
        return DeeperError(
            f"cannot open the warehouse {self.path}: {first_line(error)}; check that you may read and write"
            " it and that the disk has room, and if the file is damaged, put a copy in its place or move it"
            " away and run again"
        )


def is_damage(error: duckdb.Error) -> bool:
    """Whether DuckDB has met bytes in a file that it would not have written."""
    texts = ("Could not read enough bytes", "not a valid DuckDB database file", "Corrupt database file")
    return isinstance(error, duckdb.SerializationException) or any(text in str(error) for text in texts)


def _is_lock_conflict(error: BaseException) -> bool:
    by_another_program = "Could not set lock on file"
    by_this_process = ("different configuration than existing connections", "Unique file handle conflict")
    return isinstance(error, BlockingIOError) or (
        isinstance(error, duckdb.Error)
        and any(text in str(error) for text in (by_another_program, *by_this_process))
    )


def _process(pid: str) -> str:
    """The process with that id, for people: its command line where the system tells."""
    if not pid:
        return "another process"
    if pid == str(os.getpid()):
        return f"another connection of this process (PID {pid})"
    try:
        arguments = Path("/proc", pid, "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it has ended since, or this is no Linux
        return f"another process (the last known is {pid})"
    return f"process {pid} ({' '.join(arguments).strip()[:200]})"
