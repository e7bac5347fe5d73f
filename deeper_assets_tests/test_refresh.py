"""When ratings are read again: what is noticed, what is only asked by a command, and `--refresh`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from deeper_assets.crew import Worker
from deeper_assets.graph import Graph
from deeper_assets.lineage import render, trace
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.planning import Planner
from deeper_assets.resources import Experiment
from deeper_assets.running import run_everything
from deeper_assets.settings import Settings
from deeper_assets_tests.postgres import own_postgres

RATED = "u,i,r\n" + "".join(
    f"u{user},e{item},{1 + (user + item) % 5}\n" for user in range(6) for item in range(50)
)
FILMS = {"item_type": "film", "scale": {"lowest": 1, "highest": 5, "step": 1}, "seen": False}
COLUMNS = {"user": "u", "item": "i", "rating": "r"}


HISTORIES = ["rating_accounts", "rating_windows", "raw_ratings", "rejected_ratings"]


def experiment(home: Path, *, asks: bool = True, **source: Any) -> Experiment:
    """One domain, films, that is only evaluated, and not much of it."""
    films = {**FILMS, "columns": COLUMNS, **source}
    small: dict[str, Any] = {"train_recipes": [], "evaluate": ["films"], "eval_users": 2, "processes": 1}
    return Experiment(home, Settings(domains={"films": films}, **small), asks=asks)


def read(here: Experiment) -> None:
    """Makes what is made from the source, as a run does."""
    worker = Worker(here)
    planner = Planner(Graph.of(here), worker.definitions)
    failure = worker.make(planner.unit("personas", "films"), HISTORIES)
    assert failure is None, failure.reason


def is_stale(here: Experiment) -> bool:
    """Whether a run would read the ratings again."""
    planner = Planner(Graph.of(here), Worker(here).definitions)
    return planner.stale(HISTORIES, "films", planner.stored()) == HISTORIES


def lineage(here: Experiment) -> str:
    return render(trace(here.warehouse, "raw_ratings", "films"))


def write_csv(folder: Path) -> None:
    (folder / "c.csv").write_text(RATED.replace("u1,e1,", "u1,e01,"))


def add_to_glob(folder: Path) -> None:
    (folder / "part_2.csv").write_text(RATED)


def rate_in_database(folder: Path) -> None:
    """A change that stays in the log beside the database."""
    before = (folder / "base.duckdb").read_bytes()
    with duckdb.connect(folder / "base.duckdb") as base:
        base.execute("PRAGMA disable_checkpoint_on_shutdown")
        base.execute("INSERT INTO marks VALUES ('u1', 'new', 3)")
    assert (folder / "base.duckdb").read_bytes() == before
    assert (folder / "base.duckdb.wal").exists()


BASE = {"database": "base.duckdb"}


@pytest.mark.parametrize(
    ("source", "change", "files"),
    [
        ({"query": 'FROM "{folder}/c.csv"'}, write_csv, ["c.csv"]),
        ({"query": "FROM read_csv($${folder}/c.csv$$)"}, write_csv, ["c.csv"]),
        ({"query": "-- it's\nFROM '{folder}/c.csv'"}, write_csv, ["c.csv"]),
        ({"query": "FROM '{folder}/part_*.csv'"}, add_to_glob, ["part_1.csv"]),
        (
            {**BASE, "query": "FROM marks UNION ALL FROM '{folder}/c.csv'"},
            write_csv,
            ["base.duckdb", "c.csv"],
        ),
        ({**BASE, "query": "FROM over_file"}, write_csv, ["base.duckdb", "c.csv"]),
        ({**BASE, "query": "FROM marks"}, rate_in_database, ["base.duckdb"]),
    ],
)
def test_what_a_query_reads_is_watched(
    tmp_path: Path, source: dict[str, str], change: Callable[[Path], None], files: list[str]
) -> None:
    for name in ("c.csv", "part_1.csv"):
        (tmp_path / name).write_text(RATED)
    with duckdb.connect(tmp_path / "base.duckdb") as base:
        base.execute(f"CREATE TABLE marks AS FROM '{tmp_path}/c.csv'")
        base.execute(f"CREATE VIEW over_file AS FROM read_csv('{tmp_path}/c.csv')")
    query = source["query"].replace("{folder}", str(tmp_path))
    database = {"database": tmp_path / source["database"]} if "database" in source else {}
    here = experiment(tmp_path / "home", query=query, **database)
    read(here)
    assert not is_stale(here)
    told = lineage(here)
    for name in files:
        assert f"  file {tmp_path / name} sha256 " in told
    assert told.count("  file ") == len(files)
    change(tmp_path)
    assert is_stale(here)
    read(here)
    assert not is_stale(here)


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    with own_postgres() as dsn:
        yield dsn


def test_postgres_is_asked_for_a_count_and_a_hash(
    tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    psycopg = pytest.importorskip("psycopg")
    monkeypatch.setenv("RATINGS_DSN", dsn)

    def execute(statement: str) -> None:
        with psycopg.connect(dsn) as session:
            session.execute(statement.encode())

    execute(
        "CREATE TABLE marks AS SELECT 'u' || a % 3 AS u, 'e' || a AS i, a % 5 + 1 AS r, 0 AS other "
        "FROM generate_series(1, 180) AS a"
    )
    source = {"query": "SELECT * FROM marks -- it's all\n;", "dsn_env": "RATINGS_DSN"}
    here = experiment(tmp_path / "home", **source)
    read(here)
    assert not is_stale(here)
    assert "  answer 180 rows, hash " in lineage(here)
    assert "opensesame" not in lineage(here)

    execute("UPDATE marks SET other = 1")  # no column of ours, and every row lies in another place
    assert not is_stale(here)
    for change in (
        "UPDATE marks SET r = 6 - r WHERE i = 'e1'",
        "INSERT INTO marks VALUES ('u1', 'new', 3, 0)",
        "INSERT INTO marks VALUES ('u1', 'new', 3, 0)",  # alike twice
        "DELETE FROM marks WHERE i = 'e2'",
    ):
        execute(change)
        assert is_stale(here), change
        assert not is_stale(experiment(tmp_path / "home", asks=False, **source))  # a tick of the UI
        read(here)
        assert not is_stale(here), change
    assert "  answer 181 rows, hash " in lineage(here)

    execute("UPDATE marks SET r = 1")
    manual = experiment(tmp_path / "home", **source, refresh="manual")
    monkeypatch.setenv("RATINGS_DSN", "postgresql://deeper@127.0.0.1:9/gone")
    assert not is_stale(manual)
    with pytest.raises(DeeperError, match=r"cannot be reached .*`refresh: manual`"):
        is_stale(here)
    other = experiment(tmp_path / "home", query="SELECT * FROM marks LIMIT 9", dsn_env="RATINGS_DSN")
    assert is_stale(Experiment(other.home, other.settings, asks=False))  # another query is another source


def test_manual_looks_at_nothing_but_the_settings(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(RATED)
        with duckdb.connect(tmp_path / f"{name}.duckdb") as database:
            database.execute(f"CREATE TABLE t AS FROM '{tmp_path}/a.csv'")
    places: list[dict[str, Any]] = [
        {"file": tmp_path / "a.csv"},
        {"file": tmp_path / "b.csv"},
        {"query": "FROM t", "database": tmp_path / "a.duckdb"},
        {"query": "FROM t", "database": tmp_path / "b.duckdb"},
        {"query": f"FROM '{tmp_path}/a.csv'", "database": tmp_path / "b.duckdb"},
        {"query": f"FROM '{tmp_path}/a.csv'"},
    ]
    for place in places:
        manual = experiment(tmp_path / "home", **place, refresh="manual")
        assert is_stale(manual), "another place than before"
        read(manual)
        (tmp_path / "b.csv").write_text(RATED.replace("u1,e1,", "u1,e01,"))
        assert not is_stale(manual)


def test_refresh_reads_again_and_makes_what_follows_only_from_other_ratings(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(RATED)
    source = {"file": tmp_path / "c.csv"}
    home = tmp_path / "home"
    assert not run_everything(experiment(home, **source), lambda *_: None).failed

    def made(here: Experiment, *refresh: str) -> list[tuple[str, list[str]]]:
        outcome = run_everything(here, lambda *_: None, refresh=refresh)
        assert not outcome.failed
        return [(str(unit), list(tables)) for unit, tables in outcome.made]

    assert made(experiment(home, **source)) == []
    for here, domains in (
        (experiment(home, **source), ["films"]),
        (experiment(home, **source, refresh="always"), []),
    ):
        [(unit, tables)] = made(here, *domains)
        assert (unit, sorted(tables)) == ("personas films", HISTORIES)
    manual = experiment(home, **source, refresh="manual")
    write_csv(tmp_path)
    assert made(manual) == []
    unit, tables = made(manual, "films")[0]
    assert unit == "personas films"
    assert sorted(tables[:4]) == HISTORIES

    with pytest.raises(DeeperError, match=r"'film' is not configured .*did you mean 'films'"):
        run_everything(manual, lambda *_: None, refresh=["film"])
    with pytest.raises(DeeperError, match=r"'book' is neither evaluated nor does it train"):
        run_everything(manual, lambda *_: None, refresh=["book"])


def test_a_change_between_reading_and_storing_is_not_recorded_as_read(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(RATED)
    here = experiment(tmp_path / "home", file=tmp_path / "c.csv")
    graph, partition = Graph.of(here), {"domain": "films"}
    before = here.source("films").identity()
    graph.make(graph.tables["raw_ratings"], partition, {})
    write_csv(tmp_path)
    now = graph.ingredients("raw_ratings", partition).settings
    assert graph.made_from("raw_ratings", partition).settings == {**now, "source": before}
    assert now["source"] != before
