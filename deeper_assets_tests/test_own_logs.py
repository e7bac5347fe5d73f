"""Domains that are logs of events: what a run makes of them, when it reads them again, what it refuses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, Definitions, build_sensor_context

from deeper_assets.crew import Worker
from deeper_assets.definitions import build_definitions
from deeper_assets.estimating import Rates, estimate
from deeper_assets.graph import Graph
from deeper_assets.layers import load_settings
from deeper_assets.lineage import render, trace
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.induction.sets import INDUCERS
from deeper_assets.planning import Planner, Unit
from deeper_assets.resources import Experiment
from deeper_assets.running import run_everything
from deeper_assets.settings import Settings
from deeper_assets.store.ledger import canonical_json

READ = ["event_accounts", "events", "rejected_events"]
MEMORIES = ["memories", "memory_events", "session_readings"]
COLUMNS = {"user": "u", "text": "x", "time": "t"}
SCALE = {"lowest": 1, "highest": 5, "step": 1}


def lines(word: str = "Dragon") -> str:
    """Four users of six days, with four events each."""
    rows = [
        f"u{user},{word} story {event % 3},{86400 * day + 60 * event + user}"
        for user in range(4)
        for day in range(6)
        for event in range(4)
    ]
    return "\n".join(["u,x,t", *rows]) + "\n"


def experiment(folder: Path, *, more: dict[str, Any] | None = None, **settings: Any) -> Experiment:
    """One domain, shop, whose log lies in a file; and others."""
    if not (folder / "log.csv").exists():
        (folder / "log.csv").write_text(lines())
    shop = {"item_type": "product", "file": folder / "log.csv", "events": COLUMNS, **settings.pop("shop", {})}
    given: dict[str, Any] = {"branches": ["induction"], "train_recipes": [], "processes": 1, **settings}
    return Experiment(folder / "home", Settings(domains={"shop": shop, **(more or {})}, **given))


def planner_of(here: Experiment) -> Planner:
    return Planner(Graph.of(here), Worker(here).definitions)


def make(here: Experiment, tables: list[str]) -> None:
    worker = Worker(here)
    unit = Planner(Graph.of(here), worker.definitions).unit("remembering", "shop")
    failure = worker.make(unit, tables)
    assert failure is None, failure.reason


def stale(here: Experiment) -> list[str]:
    planner = planner_of(here)
    unit = planner.unit("remembering", "shop")
    return sorted(planner.stale(unit.tables, unit.partition_key, planner.stored()))


# ------------------------------------------------------------------------------------------------- the graph


def test_a_run_makes_no_ratings_of_a_log(tmp_path: Path) -> None:
    units: dict[Unit, Any] = planner_of(experiment(tmp_path)).units()
    assert [str(unit) for unit in units] == [
        "remembering shop",
        *(f"inducers {inducer}" for inducer in INDUCERS),
        *(f"inducing shop|{inducer}" for inducer in INDUCERS),
        *("ranking shop", "induction"),
    ]
    (first, *_), *_ = units.items()
    assert sorted(first.tables) == sorted([*READ, *MEMORIES])
    assert not units[first].needs | units[first].follows


def test_beside_a_log_ratings_are_made_as_ever(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("u,i,r\n")
    rated = {"user": "u", "item": "i", "rating": "r"}
    films = {"item_type": "film", "scale": SCALE, "file": tmp_path / "ratings.csv", "columns": rated}
    here = experiment(tmp_path, more={"films": films})
    planner = planner_of(here)
    assert planner.keys("raw_ratings") == planner.keys("rating_windows") == ["films"]
    assert planner.keys("events") == ["shop", "films"]
    assert planner.keys("persona_rounds") == [
        key for key in planner.keys("persona_rounds") if "films" in str(key)
    ]
    needs = {str(unit): sorted(map(str, edges.needs)) for unit, edges in planner.units().items()}
    assert (needs["remembering shop"], needs["remembering films"]) == ([], ["personas films"])
    assert here.training_domains == ["films"]


def test_a_log_trains_no_policy(tmp_path: Path) -> None:
    here = experiment(tmp_path, training_domains=["shop"])
    with pytest.raises(
        DeeperError, match="training_domains: 'shop' is a log of events, which trains no policy"
    ):
        print(here.training_domains)


@pytest.mark.parametrize("branches", [["refinement"], ["refinement", "induction"]])
def test_the_branch_refinement_is_refused(tmp_path: Path, branches: list[str]) -> None:
    here = experiment(tmp_path, branches=branches)
    told = "domain 'shop' is a log of events: nobody rated, .* give --branches induction, or other domains"
    with pytest.raises(DeeperError, match=told):
        run_everything(here, lambda *_: None)
    assert not here.home.exists()
    if branches == ["refinement"]:
        with pytest.raises(DeeperError, match=told):
            estimate(here, Rates())
    with pytest.raises(DeeperError, match="domain 'shop' is a log of events: it has no ratings"):
        here.source("shop")


# -------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"columns": {"user": "u", "item": "x", "rating": "r"}}, "give either columns or, for a file that"),
        ({"scale": SCALE}, "scale is for ratings; a log of events has none, so leave it out"),
        ({"marks": "user"}, "marks is for ratings; a log of events has none, so leave it out"),
        ({"seen": False}, "seen is for ratings; a log of events has none, so leave it out"),
        ({"events": {"user": "u", "text": "x"}}, "name events.time or events.order"),
        ({"events": {"user": "u", "time": "t"}}, "domains.shop.events.text"),
        ({"events": {**COLUMNS, "titel": "x"}}, "domains.shop.events.titel"),
        (
            {"events": None, "columns": {"user": "u", "item": "x", "rating": "r"}},
            "give the scale of the ratings",
        ),
    ],
)
def test_settings_that_do_not_fit_are_told(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    shop = {"item_type": "product", "file": "log.csv", "events": COLUMNS, **given}
    with pytest.raises(DeeperError) as error:
        load_settings(tmp_path / "home", {"domains": {"shop": shop}})
    assert told in str(error.value)


@pytest.mark.parametrize("column", ["user", "text", "time", "order", "session", "item", "kind", "sign"])
def test_a_column_makes_stale_what_is_read_and_nothing_else(tmp_path: Path, column: str) -> None:
    graphs = [
        Graph.of(experiment(tmp_path, shop=shop)) for shop in ({}, {"events": {**COLUMNS, column: "o"}})
    ]
    partition = {"domain": "shop"}
    tables = [*READ, *MEMORIES]
    before, after = (
        {table: canonical_json(graph.settings(table, partition)) for table in tables} for graph in graphs
    )
    assert sorted(table for table in tables if before[table] != after[table]) == READ


# ------------------------------------------------------------------------------------------- read once, again


def test_another_content_of_the_file_makes_it_stale(tmp_path: Path) -> None:
    here = experiment(tmp_path)
    make(here, READ)
    assert stale(here) == MEMORIES
    assert f"  file {tmp_path}/log.csv sha256 " in render(trace(here.warehouse, "events", "shop"))
    (tmp_path / "log.csv").write_text(lines("Robot"))
    assert stale(here) == sorted([*READ, *MEMORIES])
    assert stale(experiment(tmp_path, shop={"refresh": "manual"})) == MEMORIES


def test_what_follows_is_made_anew_only_if_the_log_is_another(tmp_path: Path) -> None:
    here = experiment(tmp_path, shop={"refresh": "manual"}, train_users=2, eval_users=2)

    def made(refresh: list[str]) -> dict[str, list[str]]:
        outcome = run_everything(here, lambda *_: None, refresh=refresh)
        assert not outcome.failed
        return {str(unit): sorted(tables) for unit, tables in outcome.made}

    assert made([])["remembering shop"] == sorted([*READ, *MEMORIES])
    assert made([]) == {}
    assert made(["shop"]) == {"remembering shop": READ}
    (tmp_path / "log.csv").write_text(lines("Robot"))
    assert made([]) == {}
    again = made(["shop"])
    assert again["remembering shop"] == sorted([*READ, *MEMORIES])
    assert len(again) > 1


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


def test_the_sensor_asks_for_logs_whose_file_has_changed(tmp_path: Path, instance: DagsterInstance) -> None:
    here = experiment(tmp_path)

    def asked(
        definitions: Definitions, cursor: str | None
    ) -> tuple[list[tuple[str | None, str | None]], str]:
        context = build_sensor_context(
            instance, cursor=cursor, repository_def=definitions.get_repository_def()
        )
        data = definitions.resolve_sensor_def("source_files").evaluate_tick(context)
        return [(one.job_name, one.partition_key) for one in data.run_requests or []], data.cursor or ""

    definitions = build_definitions(here)
    requests, cursor = asked(definitions, None)
    assert requests == [("remembering", "shop")]
    assert asked(definitions, cursor)[0] == []
    (tmp_path / "log.csv").write_text(lines("Robot"))
    assert asked(definitions, cursor)[0] == [("remembering", "shop")]


def test_hashed_ids_stand_in_no_table(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(lines().replace("u0,", "Zyxwanna,") + "Zyxwanna,x,Zyxwanna\nZyxwanna\n")
    here = experiment(tmp_path, hash_ids=True, train_share=0.0)  # chance hashes, and decides who trains
    make(here, READ)
    events = here.warehouse.load("events")
    assert events["user_id"].nunique() == 4
    assert set(events["user_id"].str.len()) == {32}
    assert len(here.warehouse.load("rejected_events")) == 2
    held = b"".join(path.read_bytes() for path in here.home.rglob("*") if path.is_file())
    assert b"Zyxwanna" not in held
