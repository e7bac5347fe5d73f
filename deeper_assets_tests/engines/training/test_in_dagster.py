"""Training by the assets that make models, and under Pipes."""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetSpec,
    DagsterInstance,
    ExecuteInProcessResult,
    InputContext,
    IOManager,
    MaterializeResult,
    OutputContext,
    PipesSubprocessClient,
    asset,
    materialize,
)

from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.engines.training.job import TrainingJob
from deeper_assets.engines.training.report import TrainingReport
from deeper_assets.engines.training.train import train
from deeper_assets.graph import Graph
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings
from deeper_assets.store.adapters import as_rows
from deeper_assets_tests.engines.training.jobs import command, configured, ignore, read_report
from deeper_assets_tests.engines.training.processes import (
    OUT_OF_MEMORY,
    TRAINING,
    TWO,
    assert_alike,
    checkpointed,
    processes_of,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.usefixtures("one_thread_and_no_gpus"),
]


class Given(IOManager):
    """Hands out the frames it is given by the name of their table, and keeps those that are made."""

    def __init__(self, **frames: pd.DataFrame) -> None:
        self.frames = frames

    def load_input(self, context: InputContext) -> pd.DataFrame:
        return self.frames[context.asset_key.to_user_string()]

    def handle_output(self, context: OutputContext, obj: pd.DataFrame) -> None:
        self.frames[context.asset_key.to_user_string()] = obj


# ------------------------------------------------------------------------------------------- in Dagster


def materialized(experiment: Experiment, given: Given, instance: DagsterInstance) -> ExecuteInProcessResult:
    """Model 1, by the asset that makes it."""
    (asset,) = [one for one in Graph.of(experiment).assets() if AssetKey("model_1") in one.keys]
    resources = {"warehouse": given, "io_manager": given}
    assets = [asset, *map(AssetSpec, given.frames)]
    return materialize(
        assets, instance=instance, resources=resources, partition_key="paper", raise_on_error=False
    )


@pytest.fixture
def given(base: Path, pairs: Path) -> Given:
    rows = pd.read_parquet(pairs)
    rows = rows.assign(pair=range(len(rows)))
    return Given(base_policy=as_rows(base), preference_pairs_1=rows, preference_groups_1=rows.iloc[:0])


@pytest.mark.slow
def test_two_processes_in_a_dagster_run_train_as_one_does(
    job: TrainingJob, given: Given, tmp_path: Path
) -> None:
    training = replace(TRAINING, batch_size=8)
    experiment = Experiment(tmp_path / "home", Settings(training=training, hardware=TWO, seed=7))
    with DagsterInstance.ephemeral() as instance:
        done = materialized(experiment, given, instance)
        told = [event.user_message for event in instance.all_logs(done.run_id)]
    (made,) = done.asset_materializations_for_node("model_1")
    report = made.metadata["report"].value
    assert (report["devices"], report["trained"], report["steps"]) == (2, 16, 4)
    # The first process alone speaks: each figure, and the memory, once.
    assert sum("training: step 4, " in text for text in told) == 1
    assert sum("memory of a device: about " in text for text in told) == 1
    assert set(given.frames["model_1"]["file"]) == {"adapter_config.json", "adapter_model.safetensors"}

    train(replace(job, training=training), ignore)
    assert_alike(job.output, experiment.home / "training" / "paper_1")


@pytest.mark.slow
def test_a_training_in_dagster_that_the_system_kills_says_what_to_change(
    given: Given, tmp_path: Path
) -> None:
    experiment = Experiment(tmp_path / "home", Settings(training=replace(TRAINING, epochs=200.0)))
    output = experiment.home / "training" / "paper_1"

    def kill() -> None:
        while not checkpointed(output):
            time.sleep(0.02)
        processes_of(os.getpid())[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with DagsterInstance.ephemeral() as instance:
        done = materialized(experiment, given, instance)
    killer.join()
    (failure,) = [event.step_failure_data.error for event in done.all_events if event.is_step_failure]
    message = failure.cause.message if failure.cause else failure.message
    assert f"DeeperError: {OUT_OF_MEMORY.format(devices=1)}" in message


@pytest.mark.slow
def test_figures_stream_into_a_dagster_run_and_so_does_a_reason(job: TrainingJob) -> None:
    told: list[dict[str, object]] = []

    @asset
    def model(context: AssetExecutionContext) -> MaterializeResult[None]:
        config = configured(job)
        done = PipesSubprocessClient().run(context=context, command=command(config))
        told.extend(done.get_custom_messages())
        return done.get_materialize_result()

    @asset
    def failing_model(context: AssetExecutionContext) -> None:
        config = configured(replace(job, base="/nowhere"))
        PipesSubprocessClient().run(context=context, command=command(config))

    with DagsterInstance.ephemeral() as instance:
        assert materialize([model], instance=instance).success
        failed = materialize([failing_model], instance=instance, raise_on_error=False)
        messages = [
            (event.level, event.user_message)
            for event in instance.all_logs(failed.run_id)
            if event.user_message
        ]
    assert [(row["kind"], row.get("step")) for row in told] == [
        *(("training", step) for step in range(1, 5)),
        ("validation", 4),
        *(("training", step) for step in range(5, 9)),
        ("validation", 8),
        ("report", None),
    ]
    report = {key: value for key, value in told[-1].items() if key != "kind"}
    assert report == read_report(job.output)
    assert set(report) == set(TrainingReport.__dataclass_fields__)
    assert not failed.success
    assert any("base model /nowhere: there is no such folder" in text for _, text in messages)


def test_only_grouping_by_length_makes_a_model_of_another_machine_stale(tmp_path: Path) -> None:
    elsewhere = Hardware(devices=4, gradient_checkpointing=True, precompute_reference=False)
    described = [
        Graph.of(Experiment(tmp_path, Settings(hardware=hardware))).settings("model_1", {"recipe": "paper"})
        for hardware in (Hardware(), elsewhere, Hardware(group_by_length=True))
    ]
    assert described[0] == described[1]
    assert described[2] == {**described[0], "hardware": {"group_by_length": True}}
