"""CSV files by DuckDB's own reader, with every line accounted for and physical line numbers.

DuckDB's reader sets aside lines that do not fit (`store_rejects`) and numbers no rows. A table's rows keep
the file's order, and `rowid` counts them: where each line is a record, that says its line. Elsewhere
`csv_lines` finds what makes the difference, and the rest is arithmetic on row numbers, in SQL.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.sql import identifier, quoted
from deeper_assets.sources.csv_lines import Layout, by_line, mended
from deeper_assets.sources.csv_records import as_plain_csv
from deeper_assets.sources.shape import unreadable
from deeper_assets.sources.streams import BLOCK, LONGEST_LINE, Blocks, is_packed, through_fifo

_DELIMITERS = ",\t;|"


def read_header(path: Path) -> tuple[list[str], str]:
    """The column names and the delimiter (of comma, tab, semicolon, bar the one most frequent in the header).

    Raises:
        DeeperError: the file is empty, not UTF-8, not what its name says, or names a column twice.
    """
    try:
        lines = io.BytesIO(next(iter(Blocks(path)), b""))
        first = lines.readline().decode("utf-8-sig")
        delimiter = max(_DELIMITERS, key=first.count)
        rest = (line.decode() for line in lines)
        names = next(csv.reader([first, *_continued(first, rest)], delimiter=delimiter), [])
    except UnicodeDecodeError as error:
        raise DeeperError(f"{path} is not UTF-8; convert it, for example with iconv") from error
    except (OSError, csv.Error) as error:
        raise DeeperError(f"{path} cannot be read as CSV: {error}") from error
    if not any(names):
        raise DeeperError(f"{path} is empty; expected a header line with the column names")
    twice = sorted({name for name in names if [other.lower() for other in names].count(name.lower()) > 1})
    if twice:
        raise DeeperError(f"{path} names columns twice in its header: {', '.join(twice)}; rename one of each")
    return names, delimiter


def load_csv(
    connection: duckdb.DuckDBPyConnection, folder: Path, path: Path, table: str, keep: Mapping[str, str]
) -> None:
    """Make the temporary view `table`: `line` (1-based, header included), `malformed`, the columns to keep.

    Texts are NULL where they are empty. A line that does not fit has NULLs and, in `malformed`, what is wrong
    with it; the others have NULL in `malformed`.

    Args:
        connection: where the view is made.
        folder: for temporary files.
        path: the file, plain or .gz.
        table: its name, an identifier.
        keep: name in the view (an identifier) → SQL over the columns of the file's header, which are text.

    Raises:
        DeeperError: the file cannot be read at all (see also `read_header`).
    """
    reader = _Reader(connection, folder, Blocks(path, tells=True), table, keep, *read_header(path))
    with unreadable(f"{path} cannot be read as CSV", OSError):
        rows = reader.load() or reader.load_slowly()
        if (why := reader.blocks.breaks_off) is not None:
            rows += f" UNION ALL BY NAME SELECT {reader.lines + 1} AS line, {quoted(why)} AS malformed"
        connection.execute(f"CREATE TEMP VIEW {table} AS {rows}")


@dataclass
class _Reader:
    """Reads a file by DuckDB's reader: the file itself where it can be, else what a thread makes of it.

    `lines` is how many lines there are, once the file has been read.
    """

    connection: duckdb.DuckDBPyConnection
    folder: Path
    blocks: Blocks
    table: str
    keep: Mapping[str, str]
    names: Sequence[str]
    delimiter: str
    lines: int = 0

    def load(self) -> str | None:
        """SQL for the rows, each with its line; None where DuckDB does not see every record."""
        try:
            layout = self._read()
        except duckdb.InvalidInputException:
            return None
        self.lines = layout.lines
        ((rows, bad),) = self.connection.execute(
            f"SELECT (SELECT count(*) FROM {self.table}_rows), "
            f"(SELECT count(DISTINCT line) FROM {self.table}_errors)"
        ).fetchall()
        if 1 + rows + bad + layout.blank.total != layout.steps:
            return None
        if bad or layout.blank.total or layout.continued.total:
            _number_lines(self.connection, self.table, list(self.keep), layout)
            return f"FROM {self.table}_numbered"
        return f"SELECT rowid + 2 AS line, NULL::VARCHAR AS malformed, * FROM {self.table}_rows"

    def load_slowly(self) -> str:
        """SQL for the rows, each with its line, as Python reads them."""
        layout = Layout(self.delimiter.encode())
        plain = as_plain_csv(layout.added(mended(self.blocks)), self.delimiter, len(self.names))
        own = {"line": "line of the file", "malformed": "what is wrong with it"}
        columns = {own["line"]: "BIGINT"} | dict.fromkeys([own["malformed"], *self.names], "VARCHAR")
        keep = {name: identifier(column) for name, column in own.items()} | dict(self.keep)
        # DuckDB's own choice is a buffer of 16 of the longest lines, half a gigabyte.
        longest = 2 * LONGEST_LINE
        options = f"header = false, delim = ',', max_line_size = {longest}, buffer_size = {longest + BLOCK}"
        with through_fifo(plain, self.folder) as fifo:
            self._make_rows(keep, fifo, columns, options)
        self.lines = layout.lines
        return f"FROM {self.table}_rows"

    def _read(self) -> Layout:
        """Make `<table>_rows` and `<table>_errors`; how the file's lines make records."""
        columns = dict.fromkeys(self.names, "VARCHAR")
        options = (
            f"header = true, delim = {quoted(self.delimiter)}, store_rejects = true, rejects_limit = 0, "
            f"rejects_table = '{self.table}_errors', rejects_scan = '{self.table}_scans'"
        )
        as_it_is = not is_packed(self.blocks.path)
        layout = Layout(self.delimiter.encode())
        if as_it_is:
            for block in self.blocks:
                layout.add(block)
        if as_it_is and layout.one_line_end:
            self._make_rows(self.keep, self.blocks.path, columns, options)
        else:
            layout = Layout(self.delimiter.encode())
            with through_fifo(layout.added(mended(self.blocks)), self.folder) as fifo:
                self._make_rows(self.keep, fifo, columns, options)
        if layout.inside or not layout.plain_quotes:
            return by_line(mended(self.blocks), self.delimiter.encode())
        return layout

    def _make_rows(
        self, keep: Mapping[str, str], place: Path, columns: Mapping[str, str], options: str
    ) -> None:
        select = ", ".join(f"{sql} AS {name}" for name, sql in keep.items())
        types = ", ".join(f"{quoted(name)}: '{type_}'" for name, type_ in columns.items())
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {self.table}_rows AS SELECT {select} FROM read_csv("
            f"{quoted(place)}, auto_detect = false, compression = 'none', quote = '\"', escape = '\"', "
            f"hive_partitioning = false, columns = {{{types}}}, {options})"
        )


def _number_lines(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], layout: Layout
) -> None:
    """Make `<table>_numbered` from `<table>_rows` (`columns`) and `<table>_errors`, with the line of each."""
    # The reader counts a value over several lines once, so its line numbers are `step`s here.
    connection.execute(
        f"""CREATE TEMP TABLE {table}_bad AS
        SELECT line AS step, min(error_message) || ' In: '
            || left(trim(any_value(csv_line), E' \\r\\n'), 200) AS malformed
        FROM {table}_errors GROUP BY line"""
    )
    connection.register("blank_lines", layout.blank.as_table())
    connection.execute(  # before row `number`, so many steps were no rows
        f"""CREATE TEMP TABLE {table}_skips AS
        SELECT step + count - 1 - skips AS number, max(skips)::BIGINT AS skips FROM (
            SELECT step, count, sum(count) OVER (ORDER BY step) AS skips
            FROM (SELECT 1 AS step, 1 AS count UNION ALL SELECT step, 1 FROM {table}_bad
                UNION ALL SELECT step, count FROM blank_lines)
        ) GROUP BY number"""
    )
    connection.unregister("blank_lines")
    connection.register("continued_lines", layout.continued.as_table())
    connection.execute(  # after `step`, so many more lines than steps
        f"""CREATE TEMP TABLE {table}_longer AS
        SELECT step, sum(sum(count)) OVER (ORDER BY step) AS more FROM continued_lines GROUP BY step"""
    )
    connection.unregister("continued_lines")
    connection.execute(
        f"""CREATE TEMP TABLE {table}_numbered AS
        WITH steps AS (
            SELECT rows.rowid + 1 + skips.skips AS step, NULL AS malformed, {", ".join(columns)}
            FROM {table}_rows AS rows ASOF JOIN {table}_skips AS skips ON rows.rowid >= skips.number
            UNION ALL BY NAME SELECT step, malformed FROM {table}_bad
        )
        SELECT steps.step + coalesce(longer.more, 0)::BIGINT AS line, steps.* EXCLUDE (step)
        FROM steps ASOF LEFT JOIN {table}_longer AS longer ON steps.step > longer.step"""
    )
    connection.execute(f"DROP TABLE {table}_rows")


def _continued(first: str, rest: Iterable[str]) -> list[str]:
    """The lines of a header whose quoted names hold line breaks, beyond its first."""
    lines: list[str] = []
    while (first + "".join(lines)).count('"') % 2 and (line := next(iter(rest), "")):
        lines.append(line)
    return lines
