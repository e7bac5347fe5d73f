import gzip
from pathlib import Path
from typing import Any

import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.csv_files import load_csv, read_header
from deeper_assets.sources.shape import identifier, scratch


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
    with pytest.raises(DeeperError, match=r"ratings\.csv\.gz cannot be read as CSV"):
        read_header(path)


def test_a_packed_file_that_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv.gz"
    path.write_bytes(gzip.compress(b"u,i\n" + b"".join(b"%d,x\n" % n for n in range(9999)))[:-2000])
    with pytest.raises(DeeperError, match=r"ratings\.csv\.gz cannot be read as CSV"):
        loaded(path)
