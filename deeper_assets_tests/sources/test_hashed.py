"""Hashed user ids: what is read is the same but for the ids, and nothing of a source is quoted."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from deeper_assets.method.domains import PAPER_DOMAINS, Domain, Scale
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.windows import UserSampling, WindowRules
from deeper_assets.sources.amounts import Marks
from deeper_assets.sources.custom import ColumnMap, CustomSource
from deeper_assets.sources.hashed import DIGITS, HIDDEN, HashedSource
from deeper_assets.sources.published import PublishedSource
from deeper_assets.sources.shape import COLUMNS, Source, scratch
from deeper_assets_tests.postgres import own_postgres
from deeper_assets_tests.sources import reading
from deeper_assets_tests.sources.reading import real_data

FILMS = Domain("films", "film", Scale(0.5, 5, 0.5), seen=True)
COLUMNS_ = ColumnMap("u", "i", "r", time="t", split="s")
SALT = "s" * 64


def hashed(source: Source, salt: str = SALT) -> HashedSource:
    return HashedSource(source, lambda: salt)


def rows_of(source: Source) -> list[dict[str, Any]]:
    with scratch() as (connection, folder):
        source.load(connection, folder)
        rows = connection.execute('FROM ratings ORDER BY "row"').fetchall()
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def of(user: str) -> str:
    return hashlib.sha256((SALT + user).encode()).hexdigest()[:DIGITS]


LOG = """u,i,r,t,s
anna,a,4,10,train
anna,b,3.5,anna,
anna,c,anna,30,
anna,a,4,10,train
anna,d
ben,a,5,40,anna
,a,5,40,
\u200b,a,5,40,
anna,e,9,50,
"""


def test_only_ids_and_what_quotes_are_others(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(LOG)
    source = CustomSource(FILMS, COLUMNS_, file=path)
    plain, rows = rows_of(source), rows_of(hashed(source))
    assert [row["user_id"] for row in rows] == [
        *(of("anna"), of("anna"), of("anna"), of("anna"), None, of("ben"), None, None, of("anna")),
    ]
    hidden = {"unreadable_time", "malformed_line", "unreadable_split"}
    for before, after in zip(plain, rows, strict=True):
        assert after == before | {
            "user_id": after["user_id"],
            "detail": HIDDEN if before["defect"] in hidden else before["detail"],
            "rating_text": HIDDEN if before["rating_text"] == "anna" else before["rating_text"],
        }
    assert [row["detail"] for row in rows if row["defect"] == "duplicate_row"] == ["already in line 2"]
    assert "anna" not in json.dumps(rows, default=str)


@pytest.mark.parametrize("marks", ["domain", "user"])
def test_amounts_are_ranked_as_before(tmp_path: Path, marks: Marks) -> None:
    path = tmp_path / "r.csv"
    path.write_text("u,i,m\nanna,a,1\nanna,b,2\nben,a,3\nben,c,anna\nanna,a,-4\n")
    source = CustomSource(FILMS, ColumnMap("u", "i", amount="m"), file=path, marks=marks)
    plain, rows = rows_of(source), rows_of(hashed(source))
    assert [row["rating"] for row in rows] == [row["rating"] for row in plain]
    assert [row["detail"] for row in rows] == [None, None, None, HIDDEN, "-4: an amount is 0 or more"]


def test_published_users_are_hashed_and_cut_as_before(tmp_path: Path) -> None:
    domain = next(domain for domain in PAPER_DOMAINS if domain.name == "clothing")
    source = PublishedSource(domain, real_data("deeper"))
    sampling = UserSampling(train_users=None, eval_users=None)
    cut = [reading.cut_source(one, tmp_path, WindowRules(), sampling) for one in (source, hashed(source))]
    plain, other = (one.windows.sort_values(["split", "window", "place", "title", "rating"]) for one in cut)
    columns = ["split", "window", "place", "title", "rating"]
    assert other[columns].to_numpy().tolist() == plain[columns].to_numpy().tolist()
    assert cut[0].accounting == cut[1].accounting
    assert set(other["user_id"]) == {of(user) for user in plain["user_id"]}


def test_identity_names_the_salt_by_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(LOG)
    source = CustomSource(FILMS, COLUMNS_, file=path, refresh="manual")
    one, other = hashed(source), hashed(source, "t" * 64)
    assert one.settings() == {**source.settings(), "hash_ids": True}
    assert one.settings().items() <= one.identity().items()
    assert one.identity() != other.identity()
    assert SALT not in json.dumps(one.identity())
    assert of("anna") not in json.dumps(one.identity())
    assert one.identity_since(one.identity()) == one.identity()
    assert other.identity_since(one.identity()) == other.identity()
    path.write_text(LOG.replace("ben", "bea"))
    assert one.identity_since({**one.identity(), "files": {}})["files"] == {}  # manual: not looked at
    changed = hashed(replace(source, refresh="changed"))
    assert changed.identity_since({**one.identity(), "files": {}}) == changed.identity()
    assert one.files() == [path]


def test_an_error_of_duckdb_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(LOG)
    with duckdb.connect(tmp_path / "r.duckdb") as connection:
        connection.execute("CREATE TABLE rated AS SELECT 'anna' AS u, 'a' AS i, 4 AS r")
    source = CustomSource(
        FILMS,
        ColumnMap("u", "i", "r"),
        database=tmp_path / "r.duckdb",
        query="SELECT u::INTEGER AS u, i, r FROM rated",
    )
    with pytest.raises(DeeperError, match="anna"):
        rows_of(source)
    with pytest.raises(DeeperError, match=r"'films' cannot be read \(ConversionException\)") as refused:
        rows_of(hashed(source))
    assert "anna" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    missing = CustomSource(FILMS, replace(COLUMNS_, user="who"), file=tmp_path / "r.csv")
    with pytest.raises(DeeperError, match=r"has no column who \(user\)"):
        rows_of(hashed(missing))
    with pytest.raises(DeeperError, match=r"none\.csv does not exist"):
        hashed(CustomSource(FILMS, COLUMNS_, file=tmp_path / "none.csv")).identity()


def test_an_error_of_postgres_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_postgres() as dsn:
        monkeypatch.setenv("RATINGS_DSN", dsn)
        query = "SELECT CAST(who AS INT) AS u, 'a' AS i, 1 AS r FROM (VALUES ('anna')) AS t(who)"
        source = CustomSource(FILMS, ColumnMap("u", "i", "r"), query=query, dsn_env="RATINGS_DSN")
        with pytest.raises(DeeperError, match="anna"):
            rows_of(source)
        with pytest.raises(DeeperError, match="because of hash_ids") as refused:
            rows_of(hashed(source))
        assert "anna" not in str(refused.value)
        wrong = hashed(replace(source, dsn_env="NOBODYS_DSN"))
        with pytest.raises(DeeperError, match="variable NOBODYS_DSN is not set"):
            rows_of(wrong)


def test_memory_that_is_too_small_stays_an_error_of_memory() -> None:
    class Full:
        domain = FILMS

        def load(self, *_: object) -> None:
            raise duckdb.OutOfMemoryException("no more")

    with pytest.raises(duckdb.OutOfMemoryException):
        HashedSource(Full(), lambda: SALT).load(duckdb.connect(), Path())  # type: ignore[arg-type]
