"""Files of JSON lines by DuckDB's own reader, with every line accounted for.

DuckDB's reader gives a row of NULLs for a line that it cannot read. Such lines, and only they, are looked at
once more in Python, which reads some of them (half a character in a text, Python literals as in old files of
Amazon) and says what is wrong with the others.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from deeper_assets.method.exceptions import DeeperError, first_line
from deeper_assets.method.sql import identifier, quoted
from deeper_assets.sources.shape import unreadable
from deeper_assets.sources.streams import Blocks, through_fifo

_BLANK = re.compile(rb"\n[ \t\r\v\f]*(?=\n)")
"""A line feed and, up to its own, a blank line."""

_LITERAL = re.compile(rb"\s*\{\s*u?'")
"""How a file of Python literals begins, and none of JSON."""

_PARTS_OF_MEMORY, _LEAST_PART = 8, 1 << 25
"""A statement reads so large a part of DuckDB's memory, or at least so many bytes. All that it has read of a
FIFO is held until it ends, and never spilled."""

_LONGEST_LITERAL = 1 << 18
"""Bytes of a Python literal: to read one takes a hundred times its memory. Reviews have some thousand."""

_MOST_BRACKETS = 800
"""Of a line that Python reads: each may be one level, and Python gives up at a depth of a thousand."""

_LINE, _WRONG = "line of the file", "what is wrong with it"
"""Columns beside those of any file's fields."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def load_json_lines(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    path: Path,
    table: str,
    fields: Sequence[str],
    keep: Mapping[str, str],
) -> None:
    """Make the temporary view `table`: `line` (1-based), `malformed`, the columns to keep.

    A line that holds no object, of JSON or Python, has NULLs and, in `malformed`, what is wrong with it; the
    others have NULL in `malformed`. A blank line is no row.

    Args:
        connection: where the view is made.
        folder: for temporary files.
        path: the file, plain or .gz.
        table: its name, an identifier.
        fields: of the objects, those that are read.
        keep: name in the view (an identifier) → SQL over these fields, which are text; arrays and objects are
            JSON text.

    Raises:
        DeeperError: the file cannot be read at all, or its objects have none of the fields.
    """
    lines = _Lines(Blocks(path, tells=True))
    select = ", ".join(f"{sql} AS {name}" for name, sql in keep.items())
    rows = f"SELECT rowid + 1 AS line, NULL::VARCHAR AS malformed, * EXCLUDE (was_read) FROM {table}_rows"
    with unreadable(f"{path} cannot be read as JSON lines", OSError):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in literals, which Python may refuse some day
            odd = _read_rows(connection, folder, lines, table, fields, select)
            written = folder / f"{table}-odd.jsonl"
            with written.open("w", encoding="ascii") as file:
                for row in _odd_rows(lines, odd, fields):
                    file.write(json.dumps(row) + "\n")
        if len(odd):
            rows += " WHERE was_read"
        if written.stat().st_size:
            columns = {_LINE: "BIGINT", _WRONG: "VARCHAR"} | _columns(fields)
            connection.execute(
                f"CREATE TEMP TABLE {table}_odd AS SELECT {identifier(_LINE)} AS line, "
                f"{identifier(_WRONG)} AS malformed, {select} FROM {_read_json(written, columns)}"
            )
            rows += f" UNION ALL BY NAME FROM {table}_odd"
        connection.execute(f"CREATE TEMP VIEW {table} AS {rows}")


def _read_rows(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    lines: "_Lines",
    table: str,
    fields: Sequence[str],
    select: str,
) -> npt.NDArray[np.int64]:
    """Make `<table>_rows`, a row a line, blank or not; the numbers (0-based) of the lines not read."""
    names = ", ".join(map(identifier, fields))
    into = f"CREATE TEMP TABLE {table}_rows AS"
    ((memory,),) = connection.execute(
        "SELECT parse_formatted_bytes(current_setting('memory_limit'))"
    ).fetchall()
    for part in _parts(lines, max(memory // _PARTS_OF_MEMORY, _LEAST_PART)):
        with through_fifo(part, folder) as fifo:
            connection.execute(
                f"{into} SELECT {select}, coalesce({names}) IS NOT NULL AS was_read "
                f"FROM {_read_json(fifo, _columns(fields))}"
            )
        into = f"INSERT INTO {table}_rows"
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}_rows").fetchall()
    if rows != lines.count:
        raise DeeperError(f"{lines.blocks.path}: DuckDB has read {rows} lines of {lines.count}")
    odd = connection.execute(f"SELECT rowid AS number FROM {table}_rows WHERE NOT was_read ORDER BY rowid")
    return np.asarray(odd.fetchnumpy()["number"], np.int64)


def _parts(blocks: Iterable[bytes], size: int) -> Iterator[Iterator[bytes]]:
    """The blocks in parts of `size` bytes, each to be iterated over before the next; one at least."""
    rest = iter(blocks)
    ended = False

    def part() -> Iterator[bytes]:
        nonlocal ended
        held = 0
        while held < size:
            block = next(rest, b"")
            ended = not block
            if ended:
                return
            held += len(block)
            yield block

    while not ended:
        yield part()


def _columns(fields: Sequence[str]) -> dict[str, str]:
    return dict.fromkeys(fields, "VARCHAR")


def _read_json(path: Path, columns: Mapping[str, str]) -> str:
    """SQL for the rows of JSON lines; those that cannot be read are NULLs."""
    types = ", ".join(f"{quoted(name)}: '{type_}'" for name, type_ in columns.items())
    return (
        f"read_json({quoted(path)}, format = 'newline_delimited', compression = 'none', auto_detect = false, "
        f"records = true, ignore_errors = true, hive_partitioning = false, columns = {{{types}}})"
    )


@dataclass
class _Lines:
    """The lines of a file as DuckDB gets them, as often as it is iterated over: each makes exactly one row.

    Attributes:
        blocks: the lines themselves.
        count: how many lines there were.
    """

    blocks: Blocks
    count: int = 0

    def __iter__(self) -> Iterator[bytes]:
        """Blocks of lines that end in line feeds; `null` for a blank line."""
        self.count = 0
        literals: bool | None = None
        for block in self.blocks:
            lines = block if block.endswith(b"\n") else block + b"\n"
            if literals is None:
                literals = _LITERAL.match(lines) is not None
            if literals:
                lines = b"\n".join(map(_as_json, lines.split(b"\n")))
            content = np.frombuffer(lines, np.uint8)
            ends = np.flatnonzero(content == ord("\n"))
            self.count += len(ends)
            if content[0] <= ord(" ") or bool(np.any(content[ends[:-1] + 1] <= ord(" "))):
                lines = _BLANK.sub(b"\nnull", b"\n" + lines)[1:]
            yield lines

    def at(self, numbers: npt.NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
        """The lines of these ascending numbers (0-based), with their numbers, as they stand in the file."""
        first = done = 0
        for block in self.blocks:
            after = first + block.count(b"\n") + (not block.endswith(b"\n"))
            upto = int(np.searchsorted(numbers, after))
            if upto > done:
                lines = block.split(b"\n")
                yield from ((number, lines[number - first]) for number in map(int, numbers[done:upto]))
            first, done = after, upto


def _as_json(line: bytes) -> bytes:
    """A line with an object as JSON that DuckDB reads; any other line as it is."""
    try:
        return json.dumps(_object(line)).encode()
    except _Wrong:
        return line


def _odd_rows(
    lines: _Lines, numbers: npt.NDArray[np.int64], fields: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The rows of lines of which DuckDB read nothing, and the one where the file breaks off."""
    readable = lines.count > len(numbers)
    breaks_off = lines.blocks.breaks_off
    for number, line in lines.at(numbers):
        if not line.strip():
            continue
        try:
            read = _object(line)
            texts = {field: _text(read.get(field)) for field in fields}
        except _Wrong as wrong:
            shown = line[:1000].decode(errors="replace").strip()[:200]
            yield {_LINE: number + 1, _WRONG: f"{wrong} In: {shown}"}
            continue
        if not readable and not any(field in read for field in fields):
            raise DeeperError(
                f"{lines.blocks.path} has no {' or '.join(fields)} in line {number + 1}; it has "
                f"{', '.join(list(read)[:20]) or 'nothing'}. Is it another kind of file?"
            )
        readable = True
        yield {_LINE: number + 1, **texts}
    if breaks_off is not None:
        yield {_LINE: lines.count + 1, _WRONG: breaks_off}


class _Wrong(ValueError):
    """What is wrong with a line."""


def _object(line: bytes) -> dict[str, Any]:
    """The object, of JSON or Python, that a line holds.

    Raises:
        _Wrong: it holds none.
    """
    if line.count(b"{") + line.count(b"[") > _MOST_BRACKETS:
        raise _Wrong("It is nested too deep, or too long.")
    try:
        text = line.decode()
        read = json.loads(text)
    except UnicodeDecodeError as error:
        raise _Wrong(f"It is not UTF-8 at byte {error.start + 1}.") from error
    except ValueError as error:
        read = _literal(text)
        if read is None:
            raise _Wrong(f"It is not JSON: {first_line(error)}.") from error
    if not isinstance(read, dict):
        raise _Wrong("It is no JSON object.")
    return read


def _literal(text: str) -> object:
    """What a Python literal says, in what JSON can say; None where there is none."""
    if len(text) > _LONGEST_LITERAL:
        return None
    try:
        return json.loads(json.dumps(ast.literal_eval(text.strip())))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _text(value: object) -> str | None:
    """A value of JSON as DuckDB gives it as text; half a character as the NUL that is rejected later."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _SURROGATE.sub("\0", text)
