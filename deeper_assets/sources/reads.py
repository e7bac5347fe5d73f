"""Which files a query reads, asked of DuckDB: its parser, its `glob`, its plan, its log of opened files.

The parser gives the names and paths that stand in the query, and `glob` the files that these paths mean. The
log says which files DuckDB opens to plan the query: also those of views, of macros and of computed paths. The
plan says by which functions rows are read. Where these disagree, or where a function is of no kind that is
known here, some of what the query reads may be out of sight: then only its answer tells whether that changed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.sql import quoted

_JSON = [f"read_{form}{kind}" for form in ("json", "ndjson") for kind in ("", "_auto", "_objects")]
_READERS = frozenset(
    [*_JSON, "read_csv", "read_csv_auto", "read_parquet", "parquet_scan", "read_text", "read_blob", "glob"]
)
"""Table functions that read the files of their first argument, and nothing else."""

_SCANS = [f"{kind}_scan" for kind in ("seq", "index", "dummy", "column_data", "cte", "rec_cte", "delim")]
_INSIDE = frozenset([*_SCANS, "empty_result", "range", "generate_series", "unnest", "json_each", "json_tree"])
"""What a plan calls the sources of rows that lie in the database or in the query itself."""


_STREAMING = frozenset({"projection", "filter", "union", "streaming_limit", "streaming_window"})
"""What a plan calls operators that leave rows in their order; groups, joins and sorts with ties do not."""


@dataclass(frozen=True)
class Reads:
    """What a query reads outside of the database that it is asked of.

    Attributes:
        files: the local files, in order.
        complete: whether nothing else is read. Otherwise the answer may change while no file does.
        in_order: whether rows come in the order of what is read, however many threads there are.
    """

    files: tuple[Path, ...]
    complete: bool
    in_order: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class _Text:
    """What stands in a query.

    Attributes:
        names: of tables, functions and columns, in lower case.
        tables: the names where a table is read, which may be paths.
        paths: what functions of `_READERS` read.
        clear: whether the paths of these functions could be told, and all of them are local.
    """

    names: frozenset[str]
    tables: tuple[str, ...]
    paths: tuple[str, ...]
    clear: bool


def bare(query: str | None) -> str:
    """A query without the semicolon at its end, and without comments behind that."""
    text = query or ""
    last = max(
        (place for place, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment), default=0
    )
    if text[last : last + 1] != ";":
        return text.strip()
    return text[:last].strip().rstrip(";")


def has_comma(folder: Path | None) -> bool:
    """Whether DuckDB would take a folder for several."""
    return "," in str(folder)


def start_in(connection: duckdb.DuckDBPyConnection, folder: Path | None) -> None:
    """Has relative paths of a query start in a folder, where there is one without a comma."""
    connection.execute("SET python_enable_replacements = false")  # no table is a variable of ours
    if folder is not None and not has_comma(folder):
        connection.execute("SET file_search_path = ?", [str(folder)])


def ask(connection: duckdb.DuckDBPyConnection, database: Path) -> None:
    """Has what follows be asked of a DuckDB file, which is opened read-only as `asked`.

    Raises:
        DeeperError: it is a file of SQLite.
    """
    connection.execute(f"ATTACH {quoted(refuse_sqlite(database))} AS asked (READ_ONLY)")
    connection.execute("USE asked")


def named_files(connection: duckdb.DuckDBPyConnection, query: str) -> list[Path]:
    """The files that stand in a query, with all that its patterns match. No file is opened.

    A name that a subquery or view shadows counts as well, where a file is called so.
    """
    text = _text(connection, query)
    matches = {path for one in (*text.tables, *text.paths) for path in _matches(connection, one)}
    return sorted(matches)


def refuse_several(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """One statement is asked and no other, whatever brackets it opens and closes.

    Raises:
        duckdb.Error: it is none, or cannot be parsed.
    """
    statements = len(connection.extract_statements(query))
    if statements != 1:
        raise duckdb.ParserException(f"expected one statement, found {statements}")


def what_is_read(connection: duckdb.DuckDBPyConnection, query: str) -> Reads:
    """What a query would read on a connection (which is that of its database); it is planned, not run.

    Raises:
        duckdb.Error: it is no query that can be asked.
        DeeperError: a relative path could mean two files.
    """
    text = _text(connection, query)
    opened, sources, others = _planned(connection, query)
    files = {path for one in text.paths for path in _matches(connection, one)}
    for name in text.tables:  # perhaps a table or a subquery, although a file is called so
        matches = _matches(connection, name)
        if opened.intersection(matches):
            files.update(matches)
    through = text.clear and not text.names & (_hidden(connection) | _changing(connection))
    known = _INSIDE | _READERS if through else _INSIDE
    complete = opened <= files and sources <= known
    whole = sorted(files | {path for path in opened if path.is_file()})
    return Reads(tuple(whole), complete, in_order=others <= _STREAMING)


def _text(connection: duckdb.DuckDBPyConnection, query: str) -> _Text:
    parsed = json.loads(_one(connection, "SELECT json_serialize_sql(?)", query))
    if parsed["error"] or len(parsed["statements"]) != 1:
        return _Text(frozenset(), (), (), clear=False)
    nodes = list(_nodes(parsed))
    tables = [".".join(node["qualified_name"]["path"]) for node in nodes if node.get("type") == "BASE_TABLE"]
    calls = [node["function"] for node in nodes if node.get("type") == "TABLE_FUNCTION"]
    paths = [_paths(connection, call) for call in calls if call["function_name"].lower() in _READERS]
    names = {
        name for node in nodes if "qualified_name" in node for name in node["qualified_name"]["path"][-1:]
    }
    names |= {node["function_name"] for node in nodes if "function_name" in node}
    names |= {node["column_names"][-1] for node in nodes if node.get("type") == "COLUMN_REF"}
    names |= {_SAMPLE for node in nodes if node.get("sample")}
    return _Text(
        frozenset(map(str.lower, names)),
        tuple(tables),
        tuple(path for some in paths for path in some or ()),
        clear=None not in paths and not any(_is_remote(path) for some in paths for path in some or ()),
    )


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Every object of a JSON value."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from _nodes(part)


def _paths(connection: duckdb.DuckDBPyConnection, call: Mapping[str, Any]) -> Sequence[str] | None:
    """The paths in the first argument of a call, which may have to be computed; None where DuckDB cannot."""
    select: dict[str, Any] = json.loads(_one(connection, "SELECT json_serialize_sql(?)", "SELECT 1"))
    arguments = [argument["expression"] for argument in call["arguments"]]
    select["statements"][0]["node"]["select_list"] = arguments[:1]
    try:
        value = _one(connection, "FROM json_execute_serialized_sql(?)", json.dumps(select))
    except duckdb.Error:
        return None
    paths = value if isinstance(value, list) else [value]
    return paths if all(isinstance(path, str) for path in paths) else None


def _is_remote(path: str) -> bool:
    return "://" in path and not path.startswith("file://")


def _matches(connection: duckdb.DuckDBPyConnection, path: str) -> list[Path]:
    """The local files that a path or pattern means; of a folder, all that lie in it."""
    if _is_remote(path):
        return []
    found: list[str] = []
    with suppress(duckdb.Error):  # a name that is no path, such as an empty one
        for pattern in (path, f"{path}/**"):
            found = found or [name for (name,) in connection.execute("FROM glob(?)", [pattern]).fetchall()]
    return [file for file in map(_local, [connection] * len(found), found) if file.is_file()]


def _local(connection: duckdb.DuckDBPyConnection, path: str) -> Path:
    """A path as DuckDB gives it, from the root.

    DuckDB looks for a relative path in the current folder first, then in those of `file_search_path`.

    Raises:
        DeeperError: there are two such files.
    """
    here = Path(path).absolute()
    if Path(path).is_absolute():
        return here
    folder = _one(connection, "SELECT current_setting('file_search_path')")
    if folder and (there := Path(folder) / path).exists() and not there.samefile(here):
        raise DeeperError(f"{path} lies in {Path.cwd()} and in {folder}; write the whole path in the query")
    return here


def _planned(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[set[Path], set[str], set[str]]:
    """The files that DuckDB opens to plan a query; what the plan calls its sources, and other operators."""
    refuse_several(connection, query)
    connection.execute("CALL enable_logging('FileSystem')")
    try:
        [(_, plan)] = connection.execute(f"EXPLAIN (FORMAT json) SELECT * FROM (\n{query}\n)").fetchall()
        rows = connection.execute(
            "SELECT DISTINCT path FROM duckdb_logs_parsed('FileSystem') WHERE op = 'OPEN'"
        ).fetchall()
    finally:
        connection.execute("CALL disable_logging()")
        connection.execute("CALL truncate_duckdb_logs()")
    operators = [node for node in _nodes(json.loads(plan)) if "children" in node]
    sources = {node["name"].lower() for node in operators if not node["children"]}
    others = {node["name"].lower() for node in operators if node["children"]}
    return {_local(connection, path) for (path,) in rows}, sources, others


def _hidden(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Names in lower case behind which more can be read than stands in a query: of views and own macros."""
    rows = connection.execute(
        "SELECT lower(view_name) FROM duckdb_views() "
        "UNION SELECT lower(function_name) FROM duckdb_functions() "
        "WHERE function_type IN ('macro', 'table_macro') AND NOT internal"
    ).fetchall()
    return {name for (name,) in rows}


def _changing(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Names in lower case of what is another value another time: of functions, and of the clock."""
    rows = connection.execute(
        "SELECT lower(function_name) FROM duckdb_functions() WHERE function_type = 'scalar' "
        "GROUP BY ALL HAVING bool_and(stability <> 'CONSISTENT')"
    ).fetchall()
    return {name for (name,) in rows} | _CLOCK | {_SAMPLE}


_CLOCK = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
"""Read from the clock, where no column is called so."""

_SAMPLE = "using sample"
"""Stands for a sample of rows, which is another one each time."""


def _one(connection: duckdb.DuckDBPyConnection, query: str, *values: Any) -> Any:
    """The one value that a query gives."""
    [(value,)] = connection.execute(query, list(values)).fetchall()
    return value


def refuse_sqlite(path: Path) -> Path:
    """`path`, of a database that can be read. DuckDB would fetch an extension from the internet for SQLite's.

    Raises:
        DeeperError: it is a SQLite file.
    """
    with path.open("rb") as file:
        if file.read(16) == b"SQLite format 3\0":
            raise DeeperError(
                f"{path} is a SQLite file, not one of DuckDB; write the ratings to a file: "
                f"sqlite3 -header -csv {path} 'SELECT * FROM TABLE' > ratings.csv"
            )
    return path
