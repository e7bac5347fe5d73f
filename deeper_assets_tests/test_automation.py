"""What happens in the UI by itself: the schedule, the sensors, and what they leave in the event log."""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    Definitions,
    MultiPartitionKey,
    RunRequest,
    build_schedule_context,
    build_sensor_context,
)
from dagster._core.definitions.data_version import CODE_VERSION_TAG

from deeper_assets.assets.histories import HISTORIES
from deeper_assets.definitions import build_definitions
from deeper_assets.engines.chat.entries import Entry, Purpose, asking_for
from deeper_assets.engines.chat.journal import Journal
from deeper_assets.graph import Graph
from deeper_assets.history import re_evaluations
from deeper_assets.instance import FOLLOWS_TAG, OUTDATED, RUN_TAG, TICK_TAG, alone_in, open_instance, prune
from deeper_assets.method.errors import MACRO
from deeper_assets.method.prompts import BUILT_IN
from deeper_assets.method.updates import PROMPT_METHODS
from deeper_assets.planning import Planner
from deeper_assets.reports.page import ReEvaluation
from deeper_assets.resources import Experiment
from deeper_assets.running import run_everything
from deeper_assets.settings import Settings

SETTINGS: dict[str, Any] = {
    "train_recipes": [],
    "evaluate": ["book", "recipe"],
    "synthetic_users": 20,
    "train_users": 2,
    "eval_users": 3,
    "persona_words": 40,
    "processes": 1,
}
TICK = datetime(2026, 1, 6, 4, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("automation") / "home"
    outcome = run_everything(Experiment(home, Settings(**SETTINGS)), lambda *_: None)
    assert not outcome.failed
    return home


@pytest.fixture
def home(_made: Path, tmp_path: Path) -> Path:
    """A home in which two domains have been made by `deeper run`, and nothing has been trained."""
    return shutil.copytree(_made, tmp_path / "home")


@pytest.fixture
def instance(home: Path) -> Iterator[DagsterInstance]:
    with open_instance(home) as instance:
        yield instance


def with_another_template(home: Path, **more: Any) -> Definitions:
    """The home's graph under settings that make two evaluations stale."""
    template = home / "slide_regen.txt"
    template.write_text(BUILT_IN["slide_regen"] + " Write at least 5 words.")
    settings = Settings(**SETTINGS, prompts={"slide_regen": template}, **more)
    return build_definitions(Experiment(home, settings))


def test_what_can_cost_is_off_to_begin_with(home: Path) -> None:
    definitions = build_definitions(Experiment(home, Settings(**SETTINGS)))
    (schedule,) = definitions.schedules or []
    assert schedule.default_status == DefaultScheduleStatus.STOPPED
    assert {sensor.name: sensor.default_status for sensor in definitions.sensors or []} == {
        "source_files": DefaultSensorStatus.STOPPED,
        "staleness": DefaultSensorStatus.RUNNING,
        "refresh_tables": DefaultSensorStatus.RUNNING,
    }


# ---------------------------------------------------------------------------------------------- re_evaluation


def asked(definitions: Definitions, instance: DagsterInstance) -> list[RunRequest]:
    """What a tick of the schedule asks for."""
    context = build_schedule_context(
        instance, scheduled_execution_time=TICK, repository_def=definitions.get_repository_def()
    )
    requests = definitions.resolve_schedule_def("re_evaluation").evaluate_tick(context).run_requests
    return list(requests or [])


def test_re_evaluation_asks_for_nothing_when_nothing_is_stale(home: Path, instance: DagsterInstance) -> None:
    settings = Settings(**SETTINGS, re_evaluation_cron="15 4 * * 2")
    definitions = build_definitions(Experiment(home, settings))
    assert definitions.resolve_schedule_def("re_evaluation").cron_schedule == "15 4 * * 2"
    assert asked(definitions, instance) == []


def test_re_evaluation_asks_for_what_is_stale(home: Path, instance: DagsterInstance) -> None:
    requests = asked(with_another_template(home), instance)
    assert [str(request.partition_key) for request in requests] == ["recipe|slide_regen", "book|slide_regen"]
    # Made together and from each other: all three tables.
    tables = {AssetKey(name) for name in ("persona_rounds", "round_predictions", "round_errors")}
    assert all(set(request.asset_selection or []) == tables for request in requests)
    assert [request.run_key for request in requests] == [
        "2026-01-06T04:15+00:00 recipe|slide_regen",
        "2026-01-06T04:15+00:00 book|slide_regen",
    ]
    assert requests[0].tags[TICK_TAG] == "2026-01-06T04:15+00:00"


def test_re_evaluation_asks_for_all_that_can_be_made_with_a_setting(
    home: Path, instance: DagsterInstance
) -> None:
    keys = [
        str(request.partition_key)
        for request in asked(with_another_template(home, re_evaluation="all"), instance)
    ]
    # Nothing has been made of the other domains, so there is nothing to evaluate.
    assert sorted(keys) == sorted(
        f"{domain}|{method}" for domain in ("book", "recipe") for method in PROMPT_METHODS
    )


# --------------------------------------------------------------------------------------------- refresh_tables


def tables_asked(definitions: Definitions, instance: DagsterInstance) -> list[RunRequest]:
    context = build_sensor_context(instance, repository_def=definitions.get_repository_def())
    return list(definitions.resolve_sensor_def("refresh_tables").evaluate_tick(context).run_requests or [])


def test_without_the_branch_that_the_tables_are_of_nothing_follows(
    home: Path, instance: DagsterInstance
) -> None:
    induced = Experiment(home, Settings(**{**SETTINGS, "branches": ["induction"]}))
    assert tables_asked(build_definitions(induced), instance) == []


def evaluate(definitions: Definitions, instance: DagsterInstance, domain: str, **tags: str) -> str:
    """Evaluates a domain by the method that is stale, as the UI would; the id of the run."""
    key = MultiPartitionKey({"domain": domain, "method": "slide_regen"})
    job = definitions.resolve_job_def("evaluation")
    return job.execute_in_process(instance=instance, partition_key=key, tags=tags).run_id


def test_tables_follow_an_evaluation_without_a_second_switch(home: Path, instance: DagsterInstance) -> None:
    definitions = build_definitions(Experiment(home, Settings(**{**SETTINGS, "eval_users": 2})))
    assert tables_asked(definitions, instance) == []  # `deeper run` has made them

    definitions.resolve_job_def("personas").execute_in_process(instance=instance, partition_key="book")
    assert tables_asked(definitions, instance) == []  # nothing has been evaluated
    run = evaluate(definitions, instance, "book", **{TICK_TAG: "this tick"})
    journal = Journal(home / "journal.sqlite", None)
    with asking_for(Purpose("persona_rounds", "book", run)):
        journal.book_hits([Entry("an answer", None, 10, 0, 5, 0.5)], "a model")
    # First the controls of the domain whose windows are others now. That of the main method's personas waits
    # for these, which are stale.
    controls = tables_asked(definitions, instance)
    assert [(request.job_name, str(request.partition_key)) for request in controls] == [
        ("controls", f"{control}|book") for control in ("control_habit", "control_history", "control_none")
    ]
    both = {AssetKey(name) for name in ("control_predictions", "control_errors")}
    assert all(set(request.asset_selection or []) == both for request in controls)
    assert controls[0].run_key == f"{run} control_habit|book"
    definitions.resolve_job_def("controls").execute_in_process(
        instance=instance, partition_key=controls[0].partition_key, tags=controls[0].tags
    )
    # They are asked for once: one that fails does not keep the tables.
    (request,) = tables_asked(definitions, instance)
    assert request.run_key == run
    assert request.tags[TICK_TAG] == "this tick"
    tables_of = ("floors_table", "mae_table", "comparison_table", "chat_usage")
    assert set(request.asset_selection or []) == {AssetKey(name) for name in tables_of}
    assert request.job_name == "tables"

    tables = definitions.resolve_job_def("tables")
    waiting = instance.create_run_for_job(tables, status=DagsterRunStatus.STARTED)
    assert tables_asked(definitions, instance) == []
    instance.delete_run(waiting.run_id)
    assert len(tables_asked(definitions, instance)) == 1

    tables.execute_in_process(instance=instance, asset_selection=request.asset_selection)
    assert tables_asked(definitions, instance) == []


def test_tables_follow_ceilings_that_are_made_alone(home: Path, instance: DagsterInstance) -> None:
    definitions = build_definitions(Experiment(home, Settings(**{**SETTINGS, "eval_users": 2})))
    definitions.resolve_job_def("personas").execute_in_process(instance=instance, partition_key="book")
    ceilings = definitions.resolve_job_def("ceilings")
    run = ceilings.execute_in_process(instance=instance, partition_key="book")
    # The controls of the domain are stale as well, but nobody asked for their answers, which may cost money.
    (request,) = tables_asked(definitions, instance)
    assert (request.job_name, request.tags[FOLLOWS_TAG]) == ("tables", run.run_id)


def test_what_a_tick_has_changed_is_remembered(home: Path, instance: DagsterInstance) -> None:
    experiment = Experiment(home, Settings(**{**SETTINGS, "eval_users": 2}))
    definitions = build_definitions(experiment)
    assert re_evaluations(instance) == []

    def figures() -> dict[str, float]:
        """The macro average of the last round, as the table has it."""
        table = experiment.warehouse.load("mae_table")
        last = table[(table["domain"] == MACRO) & (table["round"] == table["round"].max())]
        return {str(method): float(mae) for method, mae in zip(last["method"], last["mae"], strict=True)}

    before = figures()
    definitions.resolve_job_def("personas").execute_in_process(instance=instance, partition_key="book")
    evaluate(definitions, instance, "book", **{TICK_TAG: "first"})
    (nothing_followed,) = re_evaluations(instance)
    assert nothing_followed == ReEvaluation("first", ["book|slide_regen"], [], {}, {})

    tables = definitions.resolve_job_def("tables")
    tables.execute_in_process(instance=instance, tags={TICK_TAG: "first"})
    after = figures()
    assert after["floor_user_median"] != before["floor_user_median"]
    assert re_evaluations(instance) == [ReEvaluation("first", ["book|slide_regen"], [], before, after)]

    tables.execute_in_process(instance=instance, tags={TICK_TAG: "second"})
    assert [one.tick for one in re_evaluations(instance)] == ["second", "first"]
    assert re_evaluations(instance)[0] == ReEvaluation("second", [], [], after, after)
    assert [one.tick for one in re_evaluations(instance, at_most=1)] == ["second"]


def test_tables_do_not_follow_an_evaluation_that_gave_the_same(home: Path, instance: DagsterInstance) -> None:
    definitions = build_definitions(Experiment(home, Settings(**SETTINGS)))
    evaluate(definitions, instance, "book")
    assert tables_asked(definitions, instance) == []


# ----------------------------------------------------------------------------------- staleness and its files


def told(
    definitions: Definitions, instance: DagsterInstance, cursor: str | None
) -> tuple[list[tuple[str, str | None, str]], str | None]:
    """What the sensor has the log tell: tables, partitions and their code versions; and its cursor."""
    context = build_sensor_context(instance, cursor, repository_def=definitions.get_repository_def())
    data = definitions.resolve_sensor_def("staleness").evaluate_tick(context)
    for event in data.asset_events:
        instance.report_runless_asset_event(event)
    events = [
        (event.asset_key.to_user_string(), event.partition, event.tags[CODE_VERSION_TAG])
        for event in data.asset_events
    ]
    return events, data.cursor


def test_a_run_that_began_before_a_change_and_ends_after_it_is_called_fresh_at_last(
    home: Path, instance: DagsterInstance
) -> None:
    """Its event has the code version of before, which the first look at the new settings cannot know."""
    before = build_definitions(Experiment(home, Settings(**SETTINGS)))
    after = with_another_template(home)
    events, cursor = told(after, instance, None)
    confirmed = {table for table, _, _ in events}
    assert confirmed == {"persona_rounds", "round_predictions"}  # those of the other methods
    key = MultiPartitionKey({"domain": "book", "method": "full_regen"})
    before.resolve_job_def("evaluation").execute_in_process(instance=instance, partition_key=key)
    events, cursor = told(after, instance, cursor)
    assert {(table, key) for table, key, _ in events} == {
        ("persona_rounds", "book|full_regen"),
        ("round_predictions", "book|full_regen"),
    }
    assert told(after, instance, cursor)[0] == []


def test_runs_of_a_killed_command_are_buried_while_none_is_at_work(
    home: Path, instance: DagsterInstance
) -> None:
    definitions = build_definitions(Experiment(home, Settings(**SETTINGS)))
    tables = definitions.resolve_job_def("tables")
    killed = instance.create_run_for_job(tables, status=DagsterRunStatus.STARTED, tags={RUN_TAG: "1"}).run_id

    def status() -> DagsterRunStatus:
        run = instance.get_run_by_id(killed)
        assert run is not None
        return run.status

    with alone_in(home):
        told(definitions, instance, None)
        assert status() == DagsterRunStatus.STARTED
    told(definitions, instance, None)
    assert status() == DagsterRunStatus.FAILURE


def test_a_changed_file_is_called_stale_until_it_is_as_it_was(files: Path, tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "home", Settings(data=files, train_share=0))
    definitions = build_definitions(experiment)
    changed = files / "amazon_book" / "split_data" / "test_dataset.csv"
    with open_instance(experiment.home) as instance:
        job = definitions.resolve_job_def("personas")
        for domain in ("book", "recipe"):
            selection = [AssetKey(name) for name in HISTORIES]
            job.execute_in_process(instance=instance, partition_key=domain, asset_selection=selection)
        events, cursor = told(definitions, instance, None)
        assert events == []

        before = changed.read_text()
        changed.write_text(before.replace("Title 3", "Another"))
        os.utime(changed, ns=(1, 1))
        events, cursor = told(definitions, instance, cursor)
        assert sorted(events) == [(name, "book", "outdated") for name in sorted(HISTORIES)]
        last = instance.get_latest_materialization_event(AssetKey("raw_ratings"))
        assert last is not None and last.asset_materialization is not None
        assert last.asset_materialization.metadata["note"].value == OUTDATED
        assert told(definitions, instance, cursor) == ([], cursor)  # nothing new

        changed.write_text(before)
        graph = definitions.resolve_asset_graph()
        events, _ = told(definitions, instance, cursor)
        versions = {name: graph.get(AssetKey(name)).code_version for name in HISTORIES}
        assert sorted(events) == [(name, "book", versions[name]) for name in sorted(HISTORIES)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Published data of two domains, one user each."""
    for dataset in ("amazon_book", "food_com"):
        folder = tmp_path / "data" / dataset / "split_data"
        folder.mkdir(parents=True)
        windows = ",".join(f"windows_{w}" for w in range(5))
        window = json.dumps({"items": [f"Title {i}" for i in range(10)], "ratings": [4.0] * 10}).replace(
            '"', "'"
        )
        cells = ",".join(f'"{window}"' for _ in range(5))
        text = f"id,item_type,split,dataset_name,source_url,{windows}\nu1,x,eval,{dataset},x,{cells}\n"
        (folder / "test_dataset.csv").write_text(text)
    return tmp_path / "data"


def test_the_sensor_asks_for_exactly_the_touched_domains(files: Path, tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "home", Settings(data=files, train_share=0))
    definitions = build_definitions(experiment)
    sensor = definitions.resolve_sensor_def("source_files")

    def asks(cursor: str | None) -> tuple[set[str], str]:
        with DagsterInstance.ephemeral() as instance:
            data = sensor.evaluate_tick(
                build_sensor_context(instance, cursor=cursor, repository_def=definitions.get_repository_def())
            )
        return {str(request.partition_key) for request in data.run_requests or []}, data.cursor or ""

    new, cursor = asks(None)
    assert new == {"book", "recipe"}
    assert asks(cursor)[0] == set()

    changed = files / "amazon_book" / "split_data" / "test_dataset.csv"
    changed.write_text(changed.read_text().replace("Title 3", "Another"))
    os.utime(changed, ns=(1, 1))
    touched, cursor = asks(cursor)
    assert touched == {"book"}

    (files / "food_com" / "test_iterations").mkdir()
    (files / "food_com" / "test_iterations" / "test_iteration_1.jsonl").write_text("")
    assert asks(cursor)[0] == {"recipe"}


def test_the_sensor_leaves_alone_what_is_stored_already(files: Path, tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "home", Settings(data=files, train_share=0))
    definitions = build_definitions(experiment)
    with DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def("personas")
        job.execute_in_process(
            instance=instance, partition_key="book", asset_selection=list(map(AssetKey, HISTORIES))
        )
        context = build_sensor_context(instance, repository_def=definitions.get_repository_def())
        data = definitions.resolve_sensor_def("source_files").evaluate_tick(context)
    assert {request.partition_key for request in data.run_requests or []} == {"recipe"}


# ------------------------------------------------------------------------------------------------------ prune


def test_old_runs_that_lineage_does_not_name_are_pruned(home: Path, instance: DagsterInstance) -> None:
    experiment = Experiment(home, Settings(**SETTINGS, event_log_days=100))
    definitions = build_definitions(experiment)
    planner = Planner(Graph.of(experiment), definitions)
    personas = definitions.resolve_job_def("personas")
    chosen = {
        "instance": instance,
        "partition_key": "book",
        "asset_selection": list(map(AssetKey, HISTORIES)),
    }
    made = {run.run_id for run in instance.get_runs()}
    again = evaluate(definitions, instance, "book")
    # What one of the first runs has made is replaced by now, but the tables are of its rows: lineage says so.
    assert made - {version.run_id for version in experiment.warehouse.current()}
    fewer = build_definitions(Experiment(home, Settings(**{**SETTINGS, "eval_users": 2})))
    others = fewer.resolve_job_def("personas").execute_in_process(**chosen).run_id
    lastly = personas.execute_in_process(**chosen).run_id
    for name in HISTORIES:
        instance.report_runless_asset_event(AssetMaterialization(name, partition="book"))
    with sqlite3.connect(home / "dagster" / "history" / "runs.db") as runs:
        runs.execute("UPDATE runs SET create_timestamp = '2026-01-01 00:00:00'")

    prune(instance, Planner(Graph.of(Experiment(home, Settings(**SETTINGS))), definitions))  # off
    assert {run.run_id for run in instance.get_runs()} == {*made, again, others, lastly}
    asked(definitions, instance)  # nor does a look at the schedule delete anything
    assert {run.run_id for run in instance.get_runs()} == {*made, again, others, lastly}

    prune(instance, planner)
    assert {run.run_id for run in instance.get_runs()} == {*made, again, lastly}
    assert instance.all_logs(others) == []
    assert len(instance.all_logs(again)) > 0
    assert instance.all_logs("") == []  # what no run had told


def test_pruning_is_there_where_it_is_asked_for(home: Path) -> None:
    asked_for = {**SETTINGS, "event_log_days": 9}
    for settings, there in ((SETTINGS, False), (asked_for, True)):
        definitions = build_definitions(Experiment(home, Settings(**settings)))
        assert ("pruning" in {schedule.name for schedule in definitions.schedules or []}) == there
        assert ("prune_event_log" in {job.name for job in definitions.jobs or []}) == there
        definitions.get_repository_def()  # the schedule finds its job
