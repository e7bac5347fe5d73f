"""What all generated files are written with: random numbers from hashes, review texts, a file of lines."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from isal import igzip

from deeper_assets.method.sql import quoted

MEMORY = "1GB"

SENTENCES = 20_000
"""Enough that gzip, which looks back 32 kB, seldom sees one twice."""

_WORDS = """
the and i it a to is this of for in my was that with but have not you on so very as great good they are be
love we had one just when would like if use all well really product from me get nice out bought time only at
little too works or up what can recommend perfect size easy quality looks price better about more because
after made will than small don't it's i'm didn't she he her his story book movie read watch again first ever
never always bit much even also any some old new big long short hard soft fun friends family year years day
happy sad funny boring slow fast best worst money worth waste return store arrived broken fits colour pretty
comfortable cheap strong weak thin thick heavy light characters plot ending music actors scene author writing
recipe chicken sugar butter cooked dinner delicious tasty staff service place food clean café "wow",
"""

_MACROS = """
CREATE MACRO uniform(purpose, a, b := 0) AS (hash({seed}, purpose, a, b) >> 11) / 2.0 ** 53;
CREATE MACRO normal(purpose, a, b := 0) AS
    sqrt(-2 * ln(1 - uniform(purpose, a, b))) * cos(2 * pi() * uniform(purpose || ' angle', a, b));
CREATE MACRO below(n, purpose, a, b := 0) AS floor(n * uniform(purpose, a, b))::BIGINT;
CREATE MACRO chosen(values_, purpose, a, b := 0) AS values_[1 + below(len(values_), purpose, a, b)];
CREATE MACRO code(number) AS lpad(to_base((number * 2654435761) % 2199023255552, 36), 8, '0');
CREATE MACRO as_json(text_) AS to_json(text_)::VARCHAR;
CREATE MACRO day(days) AS make_date((days)::INTEGER)::TIMESTAMP;
CREATE TABLE phrases AS SELECT list(phrase ORDER BY i) AS phrases FROM (
    SELECT i, array_to_string(list_transform(
        range(3 + below(10, 'words', i)),
        lambda k: words[1 + floor(len(words) * pow(uniform('word', i, k), 1.7))::BIGINT]
    ), ' ') AS phrase FROM range({sentences}) AS r(i), (SELECT {words}::VARCHAR[] AS words)
);
CREATE MACRO prose(phrases, sentences, a) AS array_to_string(
    list_transform(range((sentences)::BIGINT), lambda k: chosen(phrases, 'phrase', a, k)), '. '
);
CREATE MACRO name(phrases, a) AS array_to_string(list_transform(
    str_split(chosen(phrases, 'name', a), ' ')[:2 + below(4, 'name words', a)],
    lambda word: upper(word[1]) || word[2:]
), ' ');
"""
"""`code` gives each number below 2^41 eight letters of its own. `prose` is some sentences, `name` some words;
`phrases` is the list in the table of that name.
"""


@contextmanager
def generator(folder: Path, seed: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the macros, in bounded memory; what does not fit lies in `folder` meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="generating-") as spill,
        duckdb.connect(":memory:", config={"temp_directory": spill, "memory_limit": MEMORY}) as connection,
    ):
        connection.execute("SET TimeZone = 'UTC'")
        # DuckDB takes `python -m` of a package that imports it for a person at a prompt.
        connection.execute("SET enable_progress_bar = false")
        words = f"[{', '.join(map(quoted, _WORDS.split()))}]"
        connection.execute(_MACROS.format(seed=seed, words=words, sentences=SENTENCES))
        yield connection


def histories(connection: duckdb.DuckDBPyConnection, rows: int, ratings: str, least_mean: float) -> None:
    """Makes the table `histories`: u (from 1) and n, ratings of each user, which add up to `rows`.

    Args:
        connection: with the macros.
        rows: ratings in all.
        ratings: SQL for a user's number of ratings, from `u`.
        least_mean: what the mean of that is certainly not below.
    """
    users = int(rows / least_mean) + 100
    connection.execute(f"""
        CREATE TABLE histories AS
        SELECT u, least(n, {rows} - before)::BIGINT AS n FROM (
            SELECT *, sum(n) OVER (ORDER BY u) - n AS before
            FROM (SELECT u, ({ratings})::BIGINT AS n FROM range(1, {users}) AS r(u))
        ) WHERE before < {rows}""")
    [(total,)] = connection.execute("SELECT sum(n) FROM histories").fetchall()
    assert total == rows, f"{users:,} users have {total:,} ratings, not {rows:,}"


def reviews_by_item(connection: duckdb.DuckDBPyConnection, items: int) -> None:
    """Makes the table `reviews` from `histories`: u, k (the user's, from 0) and item, by item."""
    connection.execute(f"""
        CREATE TABLE reviews AS SELECT u, k, {skewed_item(items)} AS item
        FROM (SELECT u, unnest(range(n)) AS k FROM histories) ORDER BY item, u, k""")


def skewed_item(items: int) -> str:
    """SQL for the number of the item, from 1, that the user u rates at k; low ones are rated most."""
    return f"(1 + floor({items} * pow(uniform('item', u, k), 2))::BIGINT)"


def by_share(shares: Sequence[tuple[str, float]], number: str) -> str:
    """SQL for the value at `number` (uniform in [0, 1)), where each value has its share."""
    total, cases = 0.0, []
    for value, share in shares[:-1]:
        total += share
        cases.append(f"WHEN {number} < {total:.6f} THEN {value}")
    return f"CASE {' '.join(cases)} ELSE {shares[-1][0]} END"


def exponential(mean: float, purpose: str) -> str:
    """SQL for a whole number from 1 of the user u at k; `mean` is that before it is rounded up."""
    return f"(1 + floor(-{mean} * ln(1 - uniform('{purpose}', u, k))))"


def json_line(fields: Mapping[str, str]) -> str:
    """SQL for an object as Python's json writes it, from SQL for each value; what gives NULL is left out."""
    texts = ", ".join(f"""'"{key}": ' || {value}""" for key, value in fields.items())
    return f"'{{' || concat_ws(', ', {texts}) || '}}'"


def write_lines(connection: duckdb.DuckDBPyConnection, path: Path, query: str, header: str = "") -> None:
    """Writes the one column of a query, a row a line, as it is; compressed where the name ends in .gz."""
    if header:
        query = f"SELECT {quoted(header)} UNION ALL FROM ({query})"
    # Without a quote and with a delimiter that no line has, DuckDB's CSV is the text itself.
    form = "(FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER E'\\x01', COMPRESSION none)"
    if path.suffix != ".gz":
        connection.execute(f"COPY ({query}) TO {quoted(path)} {form}")
        return
    # DuckDB's own gzip takes longer than all the rest.
    end, beginning = os.pipe()
    compressing = threading.Thread(target=_compress, args=(end, path))
    compressing.start()
    try:
        connection.execute(f"COPY ({query}) TO '/dev/fd/{beginning}' {form}")
    finally:
        os.close(beginning)
        compressing.join()


def _compress(end: int, path: Path) -> None:
    """Writes what comes out of a pipe to a file in gzip, with no name and no time in its header."""
    compressor: Any = igzip.IGzipFile
    with (
        open(end, "rb") as lines,
        path.open("wb") as file,
        compressor(filename="", mode="wb", compresslevel=3, fileobj=file, mtime=0) as compressed,
    ):
        shutil.copyfileobj(lines, compressed, 1 << 20)
