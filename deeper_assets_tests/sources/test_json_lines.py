import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.sql import identifier
from deeper_assets.sources.json_lines import load_json_lines
from deeper_assets.sources.shape import Workshop, scratch
from deeper_assets_tests.sources.reading import real_data


def loaded(path: Path, fields: Sequence[str] = ("a", "b")) -> list[tuple[Any, ...]]:
    keep = {f"{field}_": f"nullif({identifier(field)}, '')" for field in fields}
    with scratch() as (connection, folder):
        load_json_lines(connection, folder, path, "read", fields, keep)
        return connection.execute("FROM read ORDER BY line").fetchall()


def read(folder: Path, content: bytes, name: str = "a.json") -> list[tuple[Any, ...]]:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return loaded(path)


@pytest.mark.parametrize("name", ["a.json", "a.JSON.GZ"])
def test_a_folder_that_is_called_like_a_field_is_none(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "b=7"))
    (tmp_path / "b=7").mkdir()
    (tmp_path / "b=9").mkdir()
    path = tmp_path / "b=9" / name
    content = b'{"a": "x", "b": 1}\n{"a": "\\ud800", "b": 2}\n'
    path.write_bytes(gzip.compress(content) if name.endswith("GZ") else content)
    assert loaded(path) == [(1, None, "x", "1"), (2, None, "\0", "2")]


def test_a_file_may_be_larger_than_the_memory(tmp_path: Path) -> None:
    line = json.dumps({"a": "x", "text": "y" * 100_000}).encode() + b"\n"
    path = tmp_path / "a.json.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.writelines([line] * 4_000)
    with Workshop(tmp_path / "shop", "200 MB").open() as (connection, folder):
        load_json_lines(connection, folder, path, "read", ("a",), {"a_": "a"})
        told = connection.execute("SELECT count(*), max(line), min(a_) FROM read").fetchall()
    assert told == [(4_000, 4_000, "x")]


@pytest.mark.parametrize("size", [1, 30, 36])  # of a part: the file has 36 bytes
def test_lines_are_numbered_over_all_parts_that_are_read(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeper_assets.sources.json_lines._PARTS_OF_MEMORY", 1 << 60)
    monkeypatch.setattr("deeper_assets.sources.json_lines._LEAST_PART", size)
    monkeypatch.setattr("deeper_assets.sources.streams.BLOCK", 10)
    lines = b'{"a": 1}\n\nnothing\n{"a": 2}\n{"a": 3}\n'
    assert [(line, a) for line, _, a, _ in read(tmp_path, lines)] == [
        (1, "1"),
        (3, None),
        (4, "2"),
        (5, "3"),
    ]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_every_line_is_there_with_its_number(tmp_path: Path, name: str) -> None:
    lines = [
        b'{"a": "x", "b": 4.0, "c": {"b": 1}}',
        b"",
        b'{"b": 1, "a": ""}',
        b" \t",
        b'{"a": ["x", 1.5], "b": true}\r',
        b"\r",
        b'{"a": 12345678901234567890, "b": null}',
        b"{}",
        b'{"a": "x"',
        b'{"a": "x"} {"a": "y"}',
        b'[{"a": "x"}]',
        b'{"a": "caf\xe9"}',
        b'{"a": "\0"}',
        b"\0\0",
        b'{"a": "z"}',
    ]
    assert read(tmp_path, b"\n".join(lines), name) == [
        (1, None, "x", "4.0"),
        (3, None, None, "1"),
        (5, None, '["x",1.5]', "true"),
        (7, None, "12345678901234567890", None),
        (8, None, None, None),
        (
            9,
            'It is not JSON: Expecting \',\' delimiter: line 1 column 10 (char 9). In: {"a": "x"',
            None,
            None,
        ),
        (
            10,
            'It is not JSON: Extra data: line 1 column 12 (char 11). In: {"a": "x"} {"a": "y"}',
            None,
            None,
        ),
        (11, 'It is no JSON object. In: [{"a": "x"}]', None, None),
        (12, 'It is not UTF-8 at byte 11. In: {"a": "caf�"}', None, None),
        (
            13,
            'It is not JSON: Invalid control character at: line 1 column 8 (char 7). In: {"a": "\0"}',
            None,
            None,
        ),
        (14, "It is not JSON: Expecting value: line 1 column 1 (char 0). In: \0\0", None, None),
        (15, None, "z", None),
    ]


def test_what_python_reads_where_duckdb_does_not(tmp_path: Path) -> None:
    deep = b'{"b": ' + b"[" * 9999 + b"1" + b"]" * 9999 + b', "a": "deep"}'
    too_deep = b'{"a": "\\ud83d", "b": ' + b"[" * 100_000 + b"1" + b"]" * 100_000 + b"}"
    half = b'{"a": "whole", "b": 1, "c": "\\ud83d"}'
    halved = b'{"a": "\\ud83d", "b": 1}'
    literal = b"{'a': u'caf\\xe9', 'b': 4.5, 'c': (None, {'d': True})}"
    lines = [b'{"a": 1}', deep, too_deep, half, halved, literal, b'{"a": 2}']
    assert read(tmp_path, b"\n".join(lines)) == [
        (1, None, "1", None),
        (2, None, "deep", "[" * 9999 + "1" + "]" * 9999),
        (3, "It is nested too deep, or too long. In: " + too_deep.decode()[:200], None, None),
        (4, None, "whole", "1"),
        (5, None, "\0", "1"),
        (6, None, "café", "4.5"),
        (7, None, "2", None),
    ]


def test_a_file_of_python_literals(tmp_path: Path) -> None:
    lines = [
        b"",
        *(b"{'a': \"it's %d\", 'b': %d.5}" % (n, n) for n in range(5000)),
        b'{"a": "json"}',
        b"{'a': x}",
    ]
    rows = read(tmp_path, b"\n".join(lines))
    assert rows[:5000] == [(n + 2, None, f"it's {n}", f"{n}.5") for n in range(5000)]
    assert rows[5000:] == [
        (5002, None, "json", None),
        (
            5003,
            "It is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1). "
            "In: {'a': x}",
            None,
            None,
        ),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"{'a': [" + b"1, " * 200_000 + b"]}",
        b"{'a': " + b"(" * 9999 + b"}",
        b"{'a': " + b"-" * 99_999 + b"1}",
        b"{'a': b'x'}",
    ],
)
def test_a_literal_that_costs_too_much_or_is_no_json(tmp_path: Path, line: bytes) -> None:
    (good, bad) = read(tmp_path, b'{"a": 1}\n' + line)
    assert good == (1, None, "1", None)
    assert bad[1].startswith("It is not JSON: Expecting property name")


def test_long_lines(tmp_path: Path) -> None:
    ten = b"x" * 10_000_000
    lines = [
        b'{"a": 1, "c": "' + ten + b'"}',
        b'{"a": "' + ten + b'"}',
        b'{"a": "' + ten * 3 + b'"}',
        b'{"a": 4}',
    ]
    one, two, three, four = read(tmp_path, b"\n".join(lines), "a.json.gz")
    assert one == (1, None, "1", None)
    assert two == (2, None, ten.decode(), None)
    assert three[0] == 3
    assert three[1].startswith("It is not JSON: Unterminated string")
    assert len(three[1]) < 300
    assert four == (4, None, "4", None)


def test_where_a_packed_file_breaks_off_a_line_says_so(tmp_path: Path) -> None:
    lines = [b'{"a": "%x"}' % random.Random(number).getrandbits(128) for number in range(9999)]
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines))[:-2000])
    *good, last = loaded(path)
    assert len(good) > 9000
    assert good == [(n + 1, None, json.loads(lines[n])["a"], None) for n in range(len(good))]
    assert last == (
        len(good) + 1,
        "the file cannot be unpacked from here on: it breaks off before its end",
        None,
        None,
    )


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, b"") == read(tmp_path, b"\n\n") == read(tmp_path, b"", "a.json.gz") == []


def test_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(
        DeeperError, match=r"a\.json has no a or b in line 2; it has c, d\. Is it another kind"
    ):
        read(tmp_path, b'\n{"c": 1, "d": 2}\n{"c": 2}\n')
    with pytest.raises(DeeperError, match=r"no such.json cannot be read as JSON lines: "):
        loaded(tmp_path / "no such.json")


def test_a_real_file_of_amazon() -> None:
    path = real_data("raw") / "amazon" / "AMAZON_FASHION_5.json.gz"
    fields = ("reviewerID", "asin", "overall", "unixReviewTime")
    with gzip.open(path) as file:
        expected = [json.loads(line) for line in file]
    assert loaded(path, fields) == [
        (number, None, *(str(review[field]) for field in fields))
        for number, review in enumerate(expected, start=1)
    ]


@given(
    flips=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=8),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"]), min_size=40, max_size=40),
    cut=st.integers(0, 300),
    packed=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_whatever_bytes_are_flipped_each_line_is_a_row(
    tmp_path_factory: pytest.TempPathFactory,
    flips: list[tuple[int, int]],
    ends: list[str],
    cut: int,
    packed: bool,
) -> None:
    whole = [f'{{"a": "é {number}", "b": {{"c": {number}}}}}' for number in range(40)]
    content = bytearray("".join(line + end for line, end in zip(whole, ends, strict=True)).encode())
    del content[len(content) - cut :]
    for at, byte in flips:
        content[at % len(content)] = byte
    path = tmp_path_factory.mktemp("flipped") / ("a.json.gz" if packed else "a.json")
    path.write_bytes(gzip.compress(content) if packed else content)
    lines = {number: line for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()}
    untouched = {line.encode(): number for number, line in enumerate(whole)}
    rows = loaded(path)
    assert [row[0] for row in rows] == list(lines)
    for number, malformed, a, b in rows:
        line = bytes(lines[number].strip())
        if line in untouched:
            expected = untouched[line]
            assert (malformed, a, b) == (None, f"é {expected}", f'{{"c":{expected}}}')
        if malformed is not None:
            assert (a, b) == (None, None)
            assert malformed.startswith("It is ")


@given(
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3), cut=st.integers(0, 900)
)
@settings(max_examples=40, deadline=None)
def test_a_damaged_packed_file_gives_its_lines_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], cut: int
) -> None:
    whole = [b'{"a": "%x"}' % random.Random(number).getrandbits(128) for number in range(100)]
    packed = bytearray(gzip.compress(b"\n".join(whole) + b"\n"))
    del packed[len(packed) - cut :]
    for at, byte in flips:
        packed[at % len(packed)] = byte
    path = tmp_path_factory.mktemp("damaged") / "a.json.gz"
    path.write_bytes(packed)
    try:
        rows = loaded(path)
    except DeeperError as error:
        assert "a.json.gz" in str(error)
    else:
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        assert all(row[1] is None for row in rows) or cut or flips
