from pathlib import Path

import duckdb
import pytest

from deeper_assets.method.domains import find_domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.shape import COLUMNS, RawRating, readable, write_rows
from deeper_assets.store.schema import TABLES

BOOK = find_domain("book")


def test_columns_are_those_of_the_table() -> None:
    assert dict(COLUMNS) == {column.name: column.type for column in TABLES["raw_ratings"].columns}


def test_rows_are_numbered_and_counted(tmp_path: Path) -> None:
    rows = [RawRating(user_id="u"), RawRating(defect="missing_user"), RawRating(defect="missing_user")]
    assert write_rows(BOOK, rows, tmp_path / "raw.parquet") == 3
    answer = duckdb.sql(f"SELECT \"row\", defect FROM '{tmp_path}/raw.parquet'")
    assert answer.fetchall() == [(0, None), (1, "missing_user"), (2, "missing_user")]


def test_any_text_survives_but_nuls_and_halves(tmp_path: Path) -> None:
    titles = ['"It\'s", she said', "two\nlines", "日本 🎬", "nul\x00", "half a pair \ud83d"]
    write_rows(BOOK, [RawRating(title=title) for title in titles], tmp_path / "raw's.parquet")
    answer = duckdb.connect().execute(
        'SELECT title, "row", defect FROM read_parquet(?)', [str(tmp_path / "raw's.parquet")]
    )
    assert answer.fetchall() == [
        ('"It\'s", she said', 0, None),
        ("two\nlines", 1, None),
        ("日本 🎬", 2, None),
        ("nul�", 3, "unusable_text"),
        ("half a pair �", 4, "unusable_text"),
    ]


def test_users_with_half_a_character_are_nobody_and_not_one(tmp_path: Path) -> None:
    rows = [RawRating(user_id="a\ud800", position=0), RawRating(user_id="a\udfff", position=1)]
    rows += [RawRating(user_id="b\0", position=2, defect="short_window", detail="has 9\0")]
    write_rows(BOOK, rows, tmp_path / "raw.parquet")
    answer = duckdb.sql(f"SELECT user_id, position, defect, detail FROM '{tmp_path}/raw.parquet'")
    said = "the user id holds a NUL or half a character, at �: a�"
    assert answer.fetchall() == [
        (None, None, "unusable_text", said),
        (None, None, "unusable_text", said),
        (None, None, "short_window", "has 9�"),
    ]


def test_no_rows_are_a_file_all_the_same(tmp_path: Path) -> None:
    assert write_rows(BOOK, [], tmp_path / "raw.parquet") == 0
    assert (tmp_path / "raw.parquet").exists()


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "raw.parquet"
    write_rows(BOOK, [RawRating(user_id="u")], target)
    before = target.read_bytes()
    with pytest.raises(Exception, match="no time"):
        write_rows(BOOK, [RawRating(rated_at="no time")], target)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_files_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeeperError, match=r"gone\.csv does not exist; expected the ratings"):
        readable(tmp_path / "gone.csv", "the ratings")
    with pytest.raises(DeeperError, match="is a folder; expected the ratings"):
        readable(tmp_path, "the ratings")
    locked = tmp_path / "locked.csv"
    locked.touch()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DeeperError, match=r"locked\.csv cannot be read \(Permission denied\)"):
        readable(locked, "the ratings")
