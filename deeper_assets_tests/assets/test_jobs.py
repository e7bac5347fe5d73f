"""What starts runs: the schedule, the sensor on source files, and the tables that follow an evaluation."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    MultiPartitionKey,
    build_schedule_context,
    build_sensor_context,
    evaluate_automation_conditions,
)

from deeper_assets.definitions import build_definitions
from deeper_assets.method.recipes import RECIPES
from deeper_assets.method.updates import PROMPT_METHODS
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets_tests.store.samples import stamp


def test_everything_that_starts_runs_is_off_to_begin_with(experiment: Experiment) -> None:
    definitions = build_definitions(experiment)
    (schedule,) = definitions.schedules or []
    assert schedule.default_status == DefaultScheduleStatus.STOPPED
    sensors = definitions.sensors or []
    assert {sensor.name for sensor in sensors} == {"source_files", "refresh_tables"}
    assert all(sensor.default_status == DefaultSensorStatus.STOPPED for sensor in sensors)


def test_every_recipe_has_its_methods(tmp_path: Path) -> None:
    graph = build_definitions(Experiment(tmp_path, Settings(train_recipes=list(RECIPES))))
    methods = graph.resolve_asset_graph().get(AssetKey("policies")).partitions_def.get_partition_keys()
    others = ("paper", "future_only", "decayed", "inc_ft")
    trained = {"deeper", "deeper_iteration_1"} | {f"deeper_{name}" for name in others}
    assert sorted(methods) == sorted(trained | {"frozen_policy"} | set(PROMPT_METHODS))


def test_re_evaluation_asks_for_every_evaluated_domain_and_method_at_hand(tmp_path: Path) -> None:
    settings = Settings(re_evaluation_cron="15 4 * * 2", evaluate=["book", "grocery"])
    experiment = Experiment(tmp_path, settings)
    definitions = build_definitions(experiment)
    for method in ("hier_merge", "deeper", "deeper_decayed"):  # decayed is trained no more
        columns = ["method", "recipe", "iteration", "model", "file", "sha256"]
        rows = pd.DataFrame([(method, None, None, "m", None, None)], columns=columns)
        experiment.warehouse.replace("policies", {"method": method}, rows, stamp())
    schedule = definitions.resolve_schedule_def("re_evaluation")
    assert schedule.cron_schedule == "15 4 * * 2"
    tick = datetime(2026, 1, 6, 4, 15, tzinfo=UTC)
    with DagsterInstance.ephemeral() as instance:
        data = schedule.evaluate_tick(
            build_schedule_context(
                instance, scheduled_execution_time=tick, repository_def=definitions.get_repository_def()
            )
        )
    keys = {request.partition_key for request in data.run_requests or []}
    assert keys == {
        MultiPartitionKey({"domain": domain, "method": method})
        for domain in ("book", "grocery")
        for method in ("hier_merge", "deeper")
    }


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
    experiment = Experiment(tmp_path / "home", Settings(data=files))
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
    experiment = Experiment(tmp_path / "home", Settings(data=files))
    definitions = build_definitions(experiment)
    with DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def("personas")
        job.execute_in_process(
            instance=instance, partition_key="book", asset_selection=[AssetKey("raw_ratings")]
        )
        context = build_sensor_context(instance, repository_def=definitions.get_repository_def())
        data = definitions.resolve_sensor_def("source_files").evaluate_tick(context)
    assert {request.partition_key for request in data.run_requests or []} == {"recipe"}


def test_the_tables_follow_an_evaluation(experiment: Experiment) -> None:
    definitions = build_definitions(experiment)
    with DagsterInstance.ephemeral() as instance:
        before = evaluate_automation_conditions(defs=definitions, instance=instance)
        assert before.total_requested == 0
        definitions.resolve_job_def("personas").execute_in_process(instance=instance, partition_key="book")
        definitions.resolve_job_def("methods").execute_in_process(
            instance=instance, partition_key="inc_update"
        )
        definitions.resolve_job_def("evaluation").execute_in_process(
            instance=instance, partition_key=MultiPartitionKey({"domain": "book", "method": "inc_update"})
        )
        after = evaluate_automation_conditions(defs=definitions, instance=instance, cursor=before.cursor)
        assert after.get_num_requested(AssetKey("mae_table")) == 1
        assert after.get_num_requested(AssetKey("floors_table")) == 1
        later = evaluate_automation_conditions(defs=definitions, instance=instance, cursor=after.cursor)
        assert later.total_requested == 0
