"""CSV files by DuckDB's own reader, with every line accounted for and physical line numbers.

DuckDB's reader sets aside lines that do not fit (`store_rejects`) and numbers no rows. So lines are numbered
here. A pass over the bytes finds blank lines, which the reader skips, and lines that continue a quoted value.
The rest is arithmetic on row numbers, in SQL.
"""

import csv
import gzip
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import duckdb

from deeper_assets.method.exceptions import DeeperError, first_line
from deeper_assets.sources.shape import quoted

_DELIMITERS = ",\t;|"


def read_header(path: Path) -> tuple[list[str], str]:
    """The column names and the delimiter (of comma, tab, semicolon, bar the one most frequent in the header).

    Raises:
        DeeperError: the file is empty, not UTF-8, not what its name says, or names a column twice.
    """
    try:
        with _opened(path) as file:
            first = file.readline().decode("utf-8-sig")
            delimiter = max(_DELIMITERS, key=first.count)
            rest = (line.decode() for line in file)
            names = next(csv.reader([first, *_continued(first, rest)], delimiter=delimiter), [])
    except UnicodeDecodeError as error:
        raise DeeperError(f"{path} is not UTF-8; convert it, for example with iconv") from error
    except (OSError, EOFError, csv.Error) as error:
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
    """Make the temporary table `table`: `line` (1-based, header included), `malformed`, the columns to keep.

    Texts are NULL where they are empty. A line that does not fit has NULLs and, in `malformed`, what is wrong
    with it; the others have NULL in `malformed`.

    Args:
        connection: where the table is made.
        folder: for temporary files.
        path: the file, plain or .gz.
        table: its name, an identifier.
        keep: name in the table (an identifier) → SQL over the columns of the file's header, which are text.

    Raises:
        DeeperError: the file cannot be read at all (see also `read_header`).
    """
    names, delimiter = read_header(path)
    columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in names)
    kept = ", ".join(f"{text} AS {name}" for name, text in keep.items())
    try:
        blank, continued, mixed = _irregular_lines(path, delimiter.encode())
        read = _with_one_line_end(path, folder) if mixed else path
        connection.execute(
            f"CREATE TEMP TABLE {table}_rows AS SELECT row_number() OVER () - 1 AS number, {kept} "
            f"FROM read_csv({quoted(read)}, auto_detect = false, header = true, delim = {quoted(delimiter)}, "
            f"quote = '\"', escape = '\"', columns = {{{columns}}}, store_rejects = true, "
            f"rejects_table = '{table}_errors', rejects_scan = '{table}_scans', rejects_limit = 0)"
        )
    except (duckdb.Error, OSError, EOFError) as error:
        raise DeeperError(f"{path} cannot be read as CSV: {first_line(error)}") from error
    _number_lines(connection, table, list(keep), blank, continued)


def _number_lines(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    columns: Sequence[str],
    blank: "array[int]",
    continued: "array[int]",
) -> None:
    """Make `table` from `<table>_rows` and `<table>_errors`, with the physical line of each row.

    `columns` are those of `<table>_rows` but for the row's number; see `_irregular_lines` for the others.
    """
    # The reader counts a value over several lines once, so its line numbers are `step`s here.
    connection.execute(
        f"""CREATE TEMP TABLE {table}_bad AS
        SELECT line AS step, min(error_message) || ' In: '
            || left(trim(any_value(csv_line), E' \\r\\n'), 200) AS malformed
        FROM {table}_errors GROUP BY line"""
    )
    connection.execute(  # before row `number`, so many steps were no rows
        f"""CREATE TEMP TABLE {table}_skips AS
        SELECT step - skips AS number, max(skips) AS skips FROM (
            SELECT step, row_number() OVER (ORDER BY step) AS skips
            FROM (SELECT 1 AS step UNION SELECT step FROM {table}_bad UNION SELECT unnest($blank::BIGINT[]))
        ) GROUP BY number""",
        {"blank": blank.tolist()},
    )
    connection.execute(  # after `step`, so many more lines than steps
        f"""CREATE TEMP TABLE {table}_longer AS
        SELECT step, sum(count(*)) OVER (ORDER BY step) AS more
        FROM (SELECT unnest($continued::BIGINT[]) AS step) GROUP BY step""",
        {"continued": continued.tolist()},
    )
    connection.execute(
        f"""CREATE TEMP TABLE {table} AS
        WITH steps AS (
            SELECT rows.number + 1 + skips.skips AS step, NULL AS malformed, {", ".join(columns)}
            FROM {table}_rows AS rows ASOF JOIN {table}_skips AS skips ON rows.number >= skips.number
            UNION ALL BY NAME SELECT step, malformed FROM {table}_bad
        )
        SELECT steps.step + coalesce(longer.more, 0)::BIGINT AS line, steps.* EXCLUDE (step)
        FROM steps ASOF LEFT JOIN {table}_longer AS longer ON steps.step > longer.step"""
    )
    connection.execute(f"DROP TABLE {table}_rows")


def _opened(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _continued(first: str, rest: Iterable[str]) -> list[str]:
    """The lines of a header whose quoted names hold line breaks, beyond its first."""
    lines: list[str] = []
    while (first + "".join(lines)).count('"') % 2 and (line := next(iter(rest), "")):
        lines.append(line)
    return lines


def _with_one_line_end(path: Path, folder: Path) -> Path:
    """A copy whose lines all end in a line feed: DuckDB's reader refuses a mixture."""
    copy = folder / f"{path.stem}-one-line-end.csv"
    with _opened(path) as source, copy.open("wb") as target:
        target.writelines(line[:-2] + b"\n" if line.endswith(b"\r\n") else line for line in source)
    return copy


def _irregular_lines(path: Path, delimiter: bytes) -> tuple["array[int]", "array[int]", bool]:
    """What makes line numbers differ from record numbers.

    Returns:
        The steps (1-based; a record, however many lines it takes, or a blank line) that are blank; for every
        line that continues a quoted value, the step it belongs to; whether line ends are of two kinds.
    """
    opening = re.compile(rb"(?:^|" + re.escape(delimiter) + rb')"')
    closing = re.compile(rb'[^"]*(?:""[^"]*)*"(?!")')
    blank, continued = array("q"), array("q")
    step, inside, windows_ends = 0, False, 0
    line = b""
    with _opened(path) as file:
        for line in file:
            if inside:
                continued.append(step)
            else:
                step += 1
                windows_ends += line.endswith(b"\r\n")
                if line in (b"\n", b"\r\n"):
                    blank.append(step)
            if b'"' in line:
                at = 0
                while (match := (closing.match if inside else opening.search)(line, at)) is not None:
                    at, inside = match.end(), not inside
    ended = step - (not line.endswith(b"\n"))
    return blank, continued, 0 < windows_ends < ended
