"""Rows of one's own: a CSV, JSON lines or Parquet file, a query on a DuckDB file, or a query on Postgres.

What the rows are, ratings or events, is for the classes that are derived from `OwnRows`.

Everything is SQL inside DuckDB, which spills to disk. So tens of millions of rows fit in little memory.
"""

import glob
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import duckdb

from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError, did_you_mean
from deeper_assets.method.sql import identifier, quoted
from deeper_assets.sources.csv_files import load_csv, read_header
from deeper_assets.sources.json_lines import load_json_lines
from deeper_assets.sources.postgres import PostgresQuery, asked_of_postgres
from deeper_assets.sources.reads import Reads, ask, bare, has_comma, named_files, start_in, what_is_read
from deeper_assets.sources.shape import Answer, readable, scratch, sha256_of, unreadable
from deeper_assets.sources.streams import BLOCK, JSON_LINES, KNOWN, PARQUET

_LONGEST_LINE = 64 * 2**20
"""Bytes of a record that Postgres answers."""

Refresh = Literal["changed", "always", "manual"]
"""When rows are read again: when what is read has changed, on each run, or only when a run is told to.

A change of the settings that say what is read counts in each case.
"""


@dataclass(frozen=True)
class OwnRows(ABC):
    """One domain's rows from a file or a query.

    Attributes:
        domain: whose rows these are.
        columns: which column holds what: a frozen value, whose fields are names of columns or None.
        file: a .csv, .tsv (with a header line, UTF-8), .jsonl (also .json, .ndjson; of each also .gz) or
            .parquet file.
        database: a DuckDB file that `query` is asked of; it is opened read-only.
        query: SQL that gives the rows; alone, DuckDB's SQL over files ("FROM 'ratings.csv' JOIN …").
        dsn_env: the environment variable with the connection string of the Postgres that `query` is asked of.
        folder: where relative paths in `query` start; the current folder without it.
        refresh: see `Refresh`.
        asks: whether a query is asked to see if its answer has changed.

    Raises:
        DeeperError: not exactly one of file, database + query, dsn_env + query, query alone; or the kind of
            rows does not fit.
    """

    WHAT: ClassVar[str]
    """What messages call the rows."""

    domain: Domain
    columns: Any
    file: Path | None = None
    database: Path | None = None
    query: str | None = None
    dsn_env: str | None = None
    folder: Path | None = None
    refresh: Refresh = "changed"
    asks: bool = True

    def __post_init__(self) -> None:
        places = [place for place in (self.file, self.database, self.dsn_env) if place is not None]
        if len(places) > 1 or (self.file is None) == (self.query is None):
            raise DeeperError(
                f"the source of domain {self.domain.name!r} needs either a file, or a query with at most "
                "one of database (a DuckDB file) and dsn_env (the environment variable with a Postgres "
                "connection string)"
            )
        if (wrong := self._wrong()) is not None:
            raise DeeperError(f"the source of domain {self.domain.name!r}: {wrong}")
        if self.file is not None and not self.file.name.lower().endswith(KNOWN):
            raise DeeperError(f"{self.file} is of no known kind; known endings: {', '.join(KNOWN)}")

    @abstractmethod
    def _wrong(self) -> str | None:
        """What is wrong with the columns; None where they fit."""

    @abstractmethod
    def _typed(self, connection: duckdb.DuckDBPyConnection, texts: Mapping[str, str]) -> dict[str, str]:
        """The columns of `given`, from SQL for these texts: name → SQL."""

    def files(self) -> list[Path]:
        """The files that the settings name and that exist, those of the database included; none is opened."""
        files = [path for path in (self.file, *self._database_files()) if path is not None and path.exists()]
        if self.query is not None and self.dsn_env is None:
            with self._connection(attached=False) as connection:
                files += named_files(connection, bare(self.query))
        return files

    def identity(self) -> dict[str, Any]:
        """The `settings`, and the hash of each file that is read."""
        return self._identity(self._reads())

    def identity_since(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """What would be read now, with the answer of a query where only that tells whether it has changed.

        What is not looked at counts as it was, as `before` says: the answer where `asks` is false or the
        rows are read on each run anyway, and with `manual` whatever was read.

        Raises:
            DeeperError: see `identity`; or the query cannot be asked.
        """
        if self.refresh == "manual" and before.items() >= self.settings().items():
            return dict(before)
        reads = self._reads()
        now = self._identity(reads)
        if reads.complete:
            return now
        if self.asks and self.refresh == "changed":
            return {**now, "answer": asdict(self._answer())}
        return {**now, "answer": before["answer"]} if "answer" in before else now

    def _identity(self, reads: Reads) -> dict[str, Any]:
        return {**self.settings(), "files": {str(path): sha256_of(path) for path in reads.files}}

    def settings(self) -> dict[str, Any]:
        """Domain, columns, and what is read."""
        return {
            "domain": self.domain.name,
            "columns": asdict(self.columns),
            "file": None if self.file is None else str(self.file),
            "database": None if self.database is None else str(self.database),
            "query": self.query,
            "dsn_env": self.dsn_env,
        }

    def _give(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> Answer | None:
        """Make the relation `given`, one row a line or record; the answer, where only that tells of changes.

        It has `line` (BIGINT, 1-based), `malformed` (what is wrong with the line, or NULL) and what `_typed`
        says.
        """
        self._prepare(connection)
        if self.file is not None:
            self._load_file(connection, folder, self._input(), self._called)
            return None
        if self.dsn_env is not None:
            return self._load_answer(connection, folder / "answer.csv")
        reads = self._planned(connection)
        if not (reads.complete and reads.in_order):
            _one_after_another(connection)
        self._load_relation(connection, self._relation, self._called)
        answer = None if reads.complete else self._hashed(connection, "given")
        connection.execute("RESET threads")
        return answer

    @property
    def _called(self) -> str:
        """What messages and rows call the file or the query."""
        if self.file is not None:
            return self.file.name
        place = f"${self.dsn_env}" if self.dsn_env else self.database and self.database.name
        return f"query on {place}" if place else "query"

    @property
    def _relation(self) -> str:
        return f"(\n{bare(self.query)}\n)"

    def _input(self) -> Path:
        """The file of the rows, or the database, which can be read."""
        given = self.file or self.database
        assert given is not None
        return readable(given, f"the {self.WHAT if self.file else 'database'} of domain {self.domain.name!r}")

    def _database_files(self) -> list[Path]:
        """The database, and what has been written to it but not yet folded into its file."""
        if self.database is None:
            return []
        return [self.database, *self.database.parent.glob(f"{glob.escape(self.database.name)}.*wal")]

    @contextmanager
    def _connection(self, attached: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to look at the query; see `_prepare`."""
        with scratch() as (connection, _):
            self._prepare(connection, attached)
            yield connection

    def _prepare(self, connection: duckdb.DuckDBPyConnection, attached: bool = True) -> None:
        """Make a connection ready for the query; the database is `attached` to it."""
        start_in(connection, self.folder)
        if self.database is not None and attached:
            with unreadable(f"{self.database} cannot be opened"):
                ask(connection, self._input())

    def _reads(self) -> Reads:
        """What is read outside of Postgres."""
        if self.file is not None:
            return Reads((self._input(),), complete=True)
        if self.dsn_env is not None:
            return Reads((), complete=False)
        with self._connection() as connection:
            return self._planned(connection)

    def _planned(self, connection: duckdb.DuckDBPyConnection) -> Reads:
        """What DuckDB says that the query reads, and the files of the database that it is asked of."""
        with self._unreadable(self._called):
            reads = what_is_read(connection, bare(self.query))
        return replace(reads, files=tuple(sorted({*self._database_files(), *reads.files})))

    def _answer(self) -> Answer:
        """What the query answers now."""
        if self.dsn_env is not None:
            with asked_of_postgres(bare(self.query), self.dsn_env) as asked:
                return self._counted(asked)
        with self._connection() as connection:
            _one_after_another(connection)
            self._load_relation(connection, self._relation, self._called)
            return self._hashed(connection, "given")

    def _counted(self, asked: PostgresQuery) -> Answer:
        """The rows that Postgres answers in the columns of `_mapped`, counted and hashed there."""
        self._check_columns(asked.columns, f"the answer of the {self._called}")
        return asked.answer(list(self._mapped().values()))

    def _hashed(self, connection: duckdb.DuckDBPyConnection, relation: str) -> Answer:
        """The rows of a relation with the columns that were asked for, counted and hashed."""
        # md5 is the same in every version of DuckDB; for the sum see `PostgresQuery.answer`.
        names = [name for name in self._typed(connection, self._texts()) if name != "sign"]  # a hash itself
        row = f"json_array({', '.join(names)})"
        [(rows, total)] = connection.execute(
            f"SELECT count(*), sum((md5_number({row}::VARCHAR) % 18446744073709551616)::UBIGINT) "
            f"FROM {relation}"
        ).fetchall()
        return Answer.of(rows, int(total or 0))

    def _load_file(
        self, connection: duckdb.DuckDBPyConnection, folder: Path, path: Path, called: str
    ) -> None:
        """Make the relation `given` from a CSV, Parquet or JSON lines file."""
        if path.name.lower().endswith(PARQUET):
            self._load_relation(
                connection, f"read_parquet({quoted(path)}, hive_partitioning = false)", called
            )
            return
        if path.name.lower().endswith(JSON_LINES):
            fields = list(dict.fromkeys(self._mapped().values()))  # that a line lacks one is no error
            load_json_lines(connection, folder, path, "given", fields, self._typed(connection, self._texts()))
            return
        names, _ = read_header(path)
        self._check_columns(names, called)
        load_csv(connection, folder, path, "given", self._typed(connection, self._texts()))

    def _load_answer(self, connection: duckdb.DuckDBPyConnection, path: Path) -> Answer:
        """Make the relation `given` from what Postgres answers, by way of the file `path`."""
        with asked_of_postgres(bare(self.query), self.dsn_env or "") as asked:
            answer = self._counted(asked)
            names = asked.columns
            asked.copy(path)
        columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in names)
        read = (
            f"read_csv({quoted(path)}, auto_detect = false, header = true, quote = '\"', escape = '\"', "
            f"hive_partitioning = false, max_line_size = {_LONGEST_LINE}, "
            f"buffer_size = {_LONGEST_LINE + BLOCK}, columns = {{{columns}}})"
        )
        self._load_relation(connection, read, f"the answer of the {self._called}")
        path.unlink()
        return answer

    def _load_relation(self, connection: duckdb.DuckDBPyConnection, relation: str, called: str) -> None:
        """Make the relation `given` from a table function, or a query in brackets."""
        texts = self._texts()
        with self._unreadable(called):
            described = connection.execute(f"DESCRIBE FROM {relation}").fetchall()
            self._check_columns([name for name, *_ in described], called)
            if self.database is not None:
                # Its tables and macros may be called as ours are: so texts are all that is taken from it.
                selected = ", ".join(f"{text} AS {identifier(name)}" for name, text in texts.items())
                connection.execute(f"CREATE TEMP TABLE asked_texts AS SELECT {selected} FROM {relation}")
                connection.execute("USE memory.main")
                connection.execute("DETACH asked")
                relation, texts = "asked_texts", {name: identifier(name) for name in texts}
            columns = ", ".join(f"{text} AS {name}" for name, text in self._typed(connection, texts).items())
            connection.execute(f"CREATE TEMP TABLE given_rows AS SELECT {columns} FROM {relation}")
        # The rows of a table that was made in one go have the order of its query, and `rowid` counts them.
        connection.execute(
            "CREATE TEMP VIEW given AS"
            " SELECT rowid + 1 AS line, NULL::VARCHAR AS malformed, * FROM given_rows"
        )

    def _texts(self) -> dict[str, str]:
        """SQL for the text of each column that there is."""
        return {name: f"CAST({identifier(column)} AS VARCHAR)" for name, column in self._mapped().items()}

    def _unreadable(self, called: str) -> AbstractContextManager[None]:
        hint = ""
        if self.query is not None and has_comma(self.folder):
            hint = f"; relative paths do not start in {self.folder}, because of the comma in its name"
        return unreadable(f"{called} cannot be read", hint=hint)

    def _mapped(self) -> dict[str, str]:
        """What a column holds → its name in the source."""
        return {name: column for name, column in asdict(self.columns).items() if column is not None}

    def _check_columns(self, names: list[str], called: str) -> None:
        missing = [
            f"{column} ({name}{did_you_mean(column, names)})"
            for name, column in self._mapped().items()
            if column not in names
        ]
        if missing:
            raise DeeperError(
                f"{called} has no column {', '.join(missing)}; it has {', '.join(names)}. "
                f"Correct the columns of domain {self.domain.name!r}."
            )


def _one_after_another(connection: duckdb.DuckDBPyConnection) -> None:
    """Has rows come in the same order each time, and sums of floats be the same, so that their hash is."""
    connection.execute("SET threads = 1")
