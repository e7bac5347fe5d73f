import csv
import gzip
import io
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.sql import identifier
from deeper_assets.sources.csv_files import load_csv, read_header
from deeper_assets.sources.csv_lines import Layout
from deeper_assets.sources.shape import LEAST_MEMORY, Workshop, scratch


def loaded(path: Path) -> list[tuple[Any, ...]]:
    names, _ = read_header(path)
    with scratch() as (connection, folder):
        load_csv(
            connection, folder, path, "read", {f"c{n}": identifier(name) for n, name in enumerate(names)}
        )
        return connection.execute("FROM read ORDER BY line").fetchall()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_line_is_there_with_its_number(tmp_path: Path, end: str) -> None:
    path = tmp_path / "ratings.csv"
    lines = [
        "u,i,r",
        '1,"a ""b""',
        "",
        'c",5',
        "",
        "2,x",
        "3,y,1,z",
        '4,"e"e,3',
        '5,6" nail,4',
        '6,"never closed,1',
        "7,g,2",
    ]
    path.write_text(end.join(lines), newline="")
    short = "Expected Number of Columns: 3 Found: "
    assert loaded(path) == [
        (2, None, "1", f'a "b"{end}{end}c', "5"),
        (6, short + "2 In: 2,x", None, None, None),
        (7, short + "4 In: 3,y,1,z", None, None, None),
        (8, 'Value with unterminated quote found. In: 4,"e"e,3', None, None, None),
        (9, None, "5", '6" nail', "4"),
        (10, f'Value with unterminated quote found. In: 6,"never closed,1{end}7,g,2', None, None, None),
    ]


def test_two_kinds_of_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_bytes(b'u,i\r\n1,a\n\n2\r\n3,"c\r\nd"\n4,e')
    assert loaded(path) == [
        (2, None, "1", "a"),
        (4, "Expected Number of Columns: 2 Found: 1 In: 2", None, None),
        (5, None, "3", "c\nd"),
        (7, None, "4", "e"),
    ]


def test_a_line_that_is_not_utf8_is_one_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_bytes(b"u,i\n1,caf\xe9\n2,b\n")
    (bad, good) = loaded(path)
    assert bad[0] == 2
    assert bad[1].startswith("Invalid unicode")
    assert good == (3, None, "2", "b")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.CSV.GZ"])
def test_a_folder_that_is_called_like_a_column_is_none(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB would take the folder's name for the values of the column, also that of a FIFO."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "i=7"))
    (tmp_path / "i=7").mkdir()
    (tmp_path / "i=9").mkdir()
    for content in (b"u,i\n1,a\n", b'u,i\n1,"a"\n2,b" "c\n'):
        path = tmp_path / "i=9" / name
        path.write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
        assert loaded(path)[0] == (2, None, "1", "a")


def test_packed_with_a_mark_and_tabs(tmp_path: Path) -> None:
    path = tmp_path / "ratings.tsv.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbfu\t"i\nj"\n1\ta, b\n\n2\t\n'))
    assert read_header(path) == (["u", "i\nj"], "\t")
    assert loaded(path) == [(3, None, "1", "a, b"), (5, None, "2", None)]


def test_a_long_file_keeps_its_numbers(tmp_path: Path) -> None:
    """Long enough for DuckDB to read it in parallel; every row says its line."""
    path = tmp_path / "ratings.csv"
    with path.open("w") as file:
        file.write("line,title\n")
        line = 2
        for number in range(200_000):
            if number % 1000 == 0:
                file.write(f'{line},"a{"x" * 100}\nb"\n\n{line + 3}\n')
                line += 4
            else:
                file.write(f'{line},"{"x" * 100}"\n')
                line += 1
    rows = loaded(path)
    good = [(line, int(number)) for line, malformed, number, _ in rows if malformed is None]
    bad = [(line, int(malformed.split(": ")[-1])) for line, malformed, *_ in rows if malformed is not None]
    assert (len(good), len(bad)) == (200_000, 200)
    assert all(line == number for line, number in good + bad)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "is empty; expected a header line"),
        (b"\n1,2\n", "is empty; expected a header line"),
        (b"u,i,U\n", "names columns twice in its header: U, u"),
        ("naïve,i\n".encode("latin-1"), "is not UTF-8"),
    ],
)
def test_a_header_that_cannot_be_used(tmp_path: Path, contents: bytes, message: str) -> None:
    path = tmp_path / "ratings.csv"
    path.write_bytes(contents)
    with pytest.raises(DeeperError, match=message):
        read_header(path)


def test_a_file_that_is_not_packed(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv.gz"
    path.write_bytes(b"u,i\n")
    with pytest.raises(DeeperError, match=r"ratings\.csv\.gz cannot be unpacked: it is no gzip file, or"):
        read_header(path)


def test_a_packed_file_that_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv.gz"
    path.write_bytes(gzip.compress(b"u,i\n" + b"".join(b"%d,x\n" % n for n in range(9999)))[:-2000])
    *good, last = loaded(path)
    assert len(good) > 1000
    assert good == [(number + 2, None, str(number), "x") for number in range(len(good))]
    assert last == (
        len(good) + 2,
        "the file cannot be unpacked from here on: it breaks off before its end",
        None,
        None,
    )


def test_a_packed_file_that_breaks_off_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv.gz"
    path.write_bytes(gzip.compress(b"u,i\n1,a\n")[:12])
    with pytest.raises(DeeperError, match="is empty; expected a header line"):
        read_header(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_where_each_line_is_a_record_nothing_is_numbered(tmp_path: Path, end: str) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(end.join(["u,i", *(f'{number},"a, ""b"""' for number in range(9)), "9,"]), newline="")
    with scratch() as (connection, folder):
        load_csv(connection, folder, path, "read", {"u": "u", "i": "i"})
        assert connection.execute("FROM read ORDER BY line").fetchall() == [
            *((number + 2, None, str(number), 'a, "b"') for number in range(9)),
            (11, None, "9", None),
        ]
        (made,) = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE '%_rows'"
        ).fetchone()
        assert made == "read_rows"
        assert connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '%numbered'"
        ).fetchone() == (0,)


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.csv.gz"])
def test_what_duckdb_would_stop_at(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = b'u,i\r\n1,a\rb\r\n2,\0\r\n\0\r\n3,"x" \n4,"y" "z"\n5,' + b"e" * 10_000_000 + b"\n6,f\r"
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    rows = [(line, malformed and malformed[:60], *values) for line, malformed, *values in loaded(path)]
    assert rows == [
        (2, None, "1", "a b"),
        (3, None, "2", "\0"),
        (4, "Expected Number of Columns: 2 Found: 1 In: \0", None, None),
        (5, None, "3", "x"),
        (6, None, "4", "y z"),
        (7, "Maximum line size of 2000000 bytes exceeded. Actual Size:100", None, None),
        (8, None, "6", "f"),
    ]


def test_a_record_that_duckdb_passes_over_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_bytes(b'u,i,r\n1,x,2\n"" "a\xc3\xa9," 1,2,3\n11\n\n,,1,2,3\n5,caf\xe9,3\n\n6,"y\nz",4\n7,"')
    assert loaded(path) == [
        (2, None, "1", "x", "2"),
        (3, '\',\' expected after \'"\'. In: "" "aé," 1,2,3', None, None, None),
        (4, "Expected Number of Columns: 3 Found: 1 In: 11", None, None, None),
        (6, "Expected Number of Columns: 3 Found: 5 In: ,,1,2,3", None, None, None),
        (7, "Invalid unicode. In: 5,caf�,3", None, None, None),
        (9, None, "6", "y\nz", "4"),
        (11, 'Unexpected end of data. In: 7,"', None, None, None),
    ]


def test_two_columns_of_which_one_is_quoted_oddly_in_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("u,i\n" + "".join(f'{n},6" nail\n{n},"a\nb"\n' for n in range(0, 30_000)))
    assert loaded(path) == [
        row
        for n in range(30_000)
        for row in ((3 * n + 2, None, str(n), '6" nail'), (3 * n + 3, None, str(n), "a\nb"))
    ]


def test_a_record_that_duckdb_passes_over_is_read_in_the_least_memory(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text('u,i,r\n"" "a,"1,2\n' + "".join(f'{n},"a{n}",{n % 5}\n' for n in range(20_000)))
    with Workshop(tmp_path / "shop", f"{LEAST_MEMORY} MB").open() as (connection, folder):
        load_csv(connection, folder, path, "read", {"i": "i"})
        read = connection.execute("SELECT count(*), max(line), count(malformed) FROM read").fetchall()
    assert read == [(20_001, 20_002, 1)]


def test_lines_of_a_value_and_blank_lines_are_counted_and_not_listed() -> None:
    layout = Layout(b",")
    layout.add(b'u,i\n1,"a' + 9000 * b"\n" + b'"\n' + 700 * b"\n" + b"2,b\n\n")
    for counts, expected in ((layout.continued, {2: 9000}), (layout.blank, {3: 700, 704: 1})):
        table = counts.as_table()
        assert dict(zip(table["step"].tolist(), table["count"].tolist(), strict=True)) == expected
    assert (layout.steps, layout.lines) == (704, 9704)


def as_python_reads(content: bytes) -> list[tuple[Any, ...]]:
    """Line and values of each record that fits."""
    reader = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
    rows, line = [], 1
    for record in reader:
        if record and line > 1:
            rows.append((line, None, *(value or None for value in record)))
        line = reader.line_num + 1
    return rows


VALUES = st.text("ab,;\"' é\n", max_size=6)


@given(
    records=st.lists(
        st.tuples(st.text("12", min_size=1, max_size=3), VALUES, VALUES) | st.none(), max_size=30
    ),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    packed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_records_are_as_python_reads_them(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[str, str, str] | None],
    quoting: Literal[0, 1],
    end: str,
    packed: bool,
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, lineterminator=end)
    writer.writerow(("u", "i", "t"))
    for record in records:
        text.write(end) if record is None else writer.writerow(record)
    content = text.getvalue().encode()
    path = tmp_path_factory.mktemp("records") / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    assert loaded(path) == as_python_reads(content)


def test_a_return_before_a_line_feed_that_was_cut_off_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"u,i\n1,a\n2,b\r")
    assert loaded(path) == [(2, None, "1", "a"), (3, None, "2", "b")]


@given(
    flips=st.lists(
        st.tuples(st.integers(6, 3000), st.integers(0, 255) | st.sampled_from(b'",\n\r\0')), max_size=6
    ),
    ends=st.lists(st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n"]), min_size=60, max_size=60),
    cut=st.integers(0, 100),
    packed=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_whatever_bytes_are_flipped_the_other_lines_are_there(
    tmp_path_factory: pytest.TempPathFactory,
    flips: list[tuple[int, int]],
    ends: list[bytes],
    cut: int,
    packed: bool,
) -> None:
    whole = [b'%d,"t, ""%d""",x' % (n, n) if n % 3 else b"%d,t%d,x" % (n, n) for n in range(60)]
    content = bytearray(b"u,i,t\n" + b"".join(line + end for line, end in zip(whole, ends, strict=True)))
    del content[len(content) - cut :]
    quotes = content.count(b'"')
    for at, byte in flips:
        content[6 + at % (len(content) - 6)] = byte
    path = tmp_path_factory.mktemp("flipped") / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    lines = {number: bytes(line) for number, line in enumerate(content.split(b"\n"), start=1) if number > 1}
    values = {
        line: (b"%d" % n, b't, "%d"' % n if n % 3 else b"t%d" % n, b"x") for n, line in enumerate(whole)
    }
    rows = loaded(path)
    numbers = [row[0] for row in rows]
    assert numbers == sorted(set(numbers))
    assert set(numbers) <= set(lines)
    for number, malformed, *texts in rows:
        line = lines[number].rstrip(b"\r")
        if malformed is not None:
            assert texts == [None] * 3
        elif line in values:
            assert tuple(text.encode() for text in texts) == values[line]
    if content.count(b'"') == quotes and not any(byte == ord('"') for _, byte in flips):
        assert {number for number, line in lines.items() if line.rstrip(b"\r") in values} <= set(numbers)
