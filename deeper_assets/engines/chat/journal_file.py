"""The journal's SQLite file: tables, connections, transactions, and which process a row belongs to."""

import hashlib
import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deeper_assets.method.exceptions import DeeperError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, model TEXT NOT NULL, request BLOB NOT NULL,
    text TEXT, reason TEXT, input_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL, cost_usd REAL, answered_at TEXT NOT NULL, checksum BLOB,
    PRIMARY KEY (key, attempt)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pending (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, owner TEXT NOT NULL, batch TEXT, request BLOB,
    most_usd REAL NOT NULL, asset TEXT NOT NULL, domain TEXT NOT NULL, run_id TEXT NOT NULL,
    model TEXT NOT NULL, PRIMARY KEY (key, attempt)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pending_by_batch ON pending (batch);
CREATE TABLE IF NOT EXISTS usage (
    asset TEXT NOT NULL, domain TEXT NOT NULL, run_id TEXT NOT NULL, model TEXT NOT NULL,
    requests INTEGER NOT NULL DEFAULT 0, hits INTEGER NOT NULL DEFAULT 0,
    unreadable INTEGER NOT NULL DEFAULT 0, retries INTEGER NOT NULL DEFAULT 0,
    input_tokens INTEGER NOT NULL DEFAULT 0, cached_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0, cost_usd REAL NOT NULL DEFAULT 0,
    saved_usd REAL NOT NULL DEFAULT 0, unsure_usd REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (asset, domain, run_id, model)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    name TEXT PRIMARY KEY, owner TEXT NOT NULL, endpoint TEXT NOT NULL, provider_id TEXT,
    made_at TEXT NOT NULL
) WITHOUT ROWID;
"""

NOBODY = ""
"""Owner of what nobody works on any more."""

_BUSY_SECONDS = 120.0
"""How long to wait for another process that writes."""


def connection(path: Path) -> sqlite3.Connection:
    """The connection of this process and thread; the file is made if there is none.

    Raises:
        DeeperError: it cannot be opened.
    """
    # A connection must not cross a fork, and two threads must not share a transaction.
    return _connection(path, os.getpid(), threading.get_ident())


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The connection, to read from.

    Raises:
        DeeperError: the file cannot be read.
    """
    try:
        yield connection(path)
    except sqlite3.Error as error:
        raise _unusable(path, "read", error) from error


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction: all that is written within, or nothing.

    Raises:
        DeeperError: the file cannot be written.
    """
    db = connection(path)
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk, for one, has ended it
                db.execute("ROLLBACK")
            raise
    except sqlite3.DatabaseError as error:
        raise _unusable(path, "written", error) from error


def _unusable(path: Path, what: str, error: sqlite3.Error) -> DeeperError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds to it
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return DeeperError(
            f"journal {path} is damaged ({error}). It holds paid answers, and what they cost. Put a copy of"
            f" yours in its place, or what `sqlite3 {path} .recover` finds. If you move it away, answers that"
            " are needed again are paid for again, and max_cost_usd counts from 0"
        )
    hint = "; nothing is asked that could not be kept" if what == "written" else ""
    return DeeperError(f"journal {path} cannot be {what}: {error}{hint}")


@lru_cache(maxsize=16)
def _connection(path: Path, process: int, thread: int) -> sqlite3.Connection:  # noqa: ARG001 - part of the cache's key
    try:
        closed = path.exists() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
        db = _for_reading(path) if closed else _for_writing(path)
        # Text whose bytes are damaged is for the checksum to find.
        db.text_factory = lambda content: content.decode(errors="surrogateescape")
        db.create_function("checksum", len(_OF_ANSWER), checksum, deterministic=True)
        if not closed:
            db.executescript(_SCHEMA)
            _add_checksums(db)
    except sqlite3.Error as error:
        raise _unusable(path, "opened", error) from error
    return db


def _for_writing(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Autocommit: `writing` alone begins and ends transactions.
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    _switch_to_wal(db)
    # In WAL mode a killed process loses nothing by this; a machine that fails may lose the last moments.
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def _add_checksums(db: sqlite3.Connection) -> None:
    """To a journal from before there were any. An answer that such code adds later has none."""

    def are_missing() -> bool:
        return all(name != "checksum" for _, name, *_ in db.execute("PRAGMA table_info(answers)"))

    if are_missing():
        db.execute("BEGIN IMMEDIATE")
        if are_missing():  # no other process has been faster
            db.execute("ALTER TABLE answers ADD COLUMN checksum BLOB")
            db.execute(f"UPDATE answers SET checksum = checksum({_AS_BYTES})")
        db.execute("COMMIT")


_OF_ANSWER = (
    *("key", "attempt", "model", "request", "answered_at"),
    *("text", "reason", "input_tokens", "cached_tokens", "output_tokens", "cost_usd"),
)
ANSWER = ", ".join(_OF_ANSWER)
"""What the checksum of an answer covers."""

_NUMBERS = {"attempt", "input_tokens", "cached_tokens", "output_tokens", "cost_usd"}

_AS_BYTES = ", ".join(name if name in _NUMBERS else f"CAST({name} AS BLOB)" for name in _OF_ANSWER)
"""The same for SQL, which can hand on text that is damaged as bytes only."""

IS_DAMAGED = f"(checksum IS NOT NULL AND checksum <> checksum({_AS_BYTES}))"
"""SQL: whether an answer is not what was written."""


def checksum(*answer: Any) -> bytes:
    """Of the values of `ANSWER`: eight bytes that tell whether they are what was written."""
    digest = hashlib.blake2b(digest_size=8)
    for value in answer:
        content = value if isinstance(value, bytes) else _as_bytes(value)
        digest.update(b"%d:" % (-1 if value is None else len(content)))
        digest.update(content)
    return digest.digest()


def _as_bytes(value: Any) -> bytes:
    # SQLite gives whole numbers of dollars back as floats.
    text = value if isinstance(value, str) else f"{value:.17g}" if isinstance(value, int | float) else ""
    return text.encode(errors="surrogateescape")


def _for_reading(path: Path) -> sqlite3.Connection:
    """A connection to a file that this process may not write to, or not beside.

    SQLite keeps a log beside the file. Where there is none, nobody writes, and it would want to make one.
    """
    log = path.with_name(path.name + "-wal")
    how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    return sqlite3.connect(
        f"file:{quote(str(path))}?{how}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _switch_to_wal(db: sqlite3.Connection) -> None:
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

    def is_busy(error: BaseException) -> bool:
        return isinstance(error, sqlite3.Error) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY

    # While another process makes the same file, SQLite fails here at once and does not wait.
    patiently = Retrying(
        retry=retry_if_exception(is_busy),
        stop=stop_after_delay(_BUSY_SECONDS),
        wait=wait_random(0, 0.05),
        reraise=True,
    )
    patiently(db.execute, "PRAGMA journal_mode = WAL")


def packed(request: Mapping[str, Any]) -> bytes:
    """A request's body as the file keeps it."""
    return zlib.compress(json.dumps(request, ensure_ascii=False).encode(errors="surrogatepass"))


def unpacked(request: bytes) -> dict[str, Any]:
    """A request's body, read from what `packed` made."""
    body: dict[str, Any] = json.loads(zlib.decompress(request).decode(errors="surrogatepass"))
    return body


def own_name() -> str:
    """The owner that stands beside what this process writes."""
    return _name_of(os.getpid())


@lru_cache(maxsize=1)
def _name_of(pid: int) -> str:
    """Process number and start time: the system gives the same number to another process one day."""
    import psutil

    return f"{pid} {psutil.Process(pid).create_time()}"


def is_alive(owner: str) -> bool:
    """Whether the process of an owner still runs."""
    import psutil

    if owner == NOBODY:
        return False
    if owner == own_name():
        return True
    pid, started = owner.split()
    try:
        return bool(abs(psutil.Process(int(pid)).create_time() - float(started)) < 1)
    except psutil.Error:
        return False
