"""`deeper run`: the whole graph in the home folder's own Dagster instance, only what is missing or stale.

Every unit of work is one Dagster run of one job for one partition, so `dagster dev` on the same home shows
what was done, and a run killed at any moment leaves whole partitions and nothing else.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dagster import (
    AssetCheckKey,
    AssetKey,
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
    JobDefinition,
    MultiPartitionKey,
    RunsFilter,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation

from deeper_assets.definitions import build_definitions
from deeper_assets.jobs import EVALUATION, PERSONAS, TABLES
from deeper_assets.method.faults import DeeperError
from deeper_assets.method.updates import UPDATES
from deeper_assets.planning import Planner
from deeper_assets.resources import Experiment

RUN_TAG = "deeper/command"

DAGSTER_YAML = """\
# The Dagster instance of this experiment: `DAGSTER_HOME={folder} dagster dev` shows it.
telemetry:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 2
"""


@dataclass(frozen=True)
class Unit:
    """One run: the tables that one job makes for one partition."""

    job: str
    partition_key: str | None
    tables: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.job} {self.partition_key}" if self.partition_key else self.job


@dataclass
class Outcome:
    """What became of a run of the whole graph.

    Attributes:
        made: units that were made, with the tables each run materialized.
        up_to_date: units that had nothing to do.
        failed: units that could not be made, and the reason in one line.
        skipped: units that would have needed a failed one.
    """

    made: list[tuple[Unit, list[str]]] = field(default_factory=list)
    up_to_date: list[Unit] = field(default_factory=list)
    failed: list[tuple[Unit, Exception]] = field(default_factory=list)
    skipped: list[Unit] = field(default_factory=list)


Report = Callable[[Unit, int, int], None]
"""Called before each unit: the unit, how many are done, how many there are."""


def run_everything(experiment: Experiment, domains: Sequence[str], report: Report) -> Outcome:
    """Brings every table of these domains up to date, and the tables over all domains.

    Args:
        experiment: home and settings.
        domains: names of the domains to run.
        report: told about progress.

    Returns:
        What was made, what failed. A domain that fails leaves the other domains untouched.

    Raises:
        DeeperError: a domain is not configured, or another `deeper run` is at work in the same home.
    """
    for name in domains:
        experiment.domain(name)
    definitions = build_definitions(experiment)
    planner = Planner(experiment, definitions.resolve_asset_graph())
    with _alone_in(experiment.home), open_instance(experiment.home) as instance:
        _bury_the_dead(instance)
        shutil.rmtree(experiment.home / "scratch", ignore_errors=True)
        units = _units(definitions, domains)
        outcome = Outcome()
        for done, unit in enumerate(units):
            report(unit, done, len(units))
            if _needs_a_failed_one(unit, outcome):
                outcome.skipped.append(unit)
                continue
            stale = planner.stale(unit.tables, unit.partition_key)
            stale = _with_failed_checks(instance, planner, unit, stale)
            if not stale:
                outcome.up_to_date.append(unit)
                continue
            try:
                _make(definitions, instance, unit, stale)
            except Exception as error:  # noqa: BLE001 - reported to the user, and the other units go on
                outcome.failed.append((unit, error))
            else:
                outcome.made.append((unit, stale))
    return outcome


def open_instance(home: Path) -> DagsterInstance:
    """The Dagster instance in the home folder, made where there is none."""
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        (folder / "dagster.yaml").write_text(DAGSTER_YAML.format(folder=folder), encoding="utf-8")
    return DagsterInstance.from_config(str(folder))


def _units(definitions: Definitions, domains: Sequence[str]) -> list[Unit]:
    def unit(job: str, partition_key: str | None) -> Unit:
        keys = definitions.resolve_job_def(job).asset_layer.executable_asset_keys
        return Unit(job, partition_key, tuple(sorted(key.to_user_string() for key in keys)))

    return [
        *(unit(PERSONAS.name, name) for name in domains),
        *(
            unit(EVALUATION.name, MultiPartitionKey({"domain": name, "method": method}))
            for name in domains
            for method in UPDATES
        ),
        unit(TABLES.name, None),
    ]


def _needs_a_failed_one(unit: Unit, outcome: Outcome) -> bool:
    """Evaluation needs its domain's personas; the tables are made from whatever there is."""
    if not isinstance(unit.partition_key, MultiPartitionKey):
        return False
    domain = unit.partition_key.keys_by_dimension["domain"]
    return any(failed.partition_key == domain for failed, _ in outcome.failed)


def _with_failed_checks(
    instance: DagsterInstance, planner: Planner, unit: Unit, stale: list[str]
) -> list[str]:
    """Adds tables whose blocking check failed last time, and what is made from them.

    They are made and checked again: passing them over would let their failure through.
    """
    graph = planner.graph
    failed = {
        key.asset_key.to_user_string()
        for key in graph.asset_check_keys
        if key.asset_key.to_user_string() in unit.tables
        and graph.get(key).blocking
        and _failed_last_time(instance, key, unit.partition_key)
    }
    if not failed:
        return stale
    again = set(stale)
    for table in planner.order:
        parents = {parent.to_user_string() for parent in graph.get(AssetKey(table)).parent_keys}
        if table in unit.tables and (table in failed or parents & again):
            again.add(table)
    return [table for table in planner.order if table in again]


def _failed_last_time(instance: DagsterInstance, key: AssetCheckKey, partition_key: str | None) -> bool:
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=200)
    for record in history:
        event = record.event.dagster_event if record.event else None
        evaluation = event.event_specific_data if event else None
        if isinstance(evaluation, AssetCheckEvaluation) and evaluation.partition == partition_key:
            return not evaluation.passed
    return False


def _make(definitions: Definitions, instance: DagsterInstance, unit: Unit, tables: Sequence[str]) -> None:
    """One Dagster run. Raises what the asset raised."""
    job: JobDefinition = definitions.resolve_job_def(unit.job)
    job.execute_in_process(
        instance=instance,
        partition_key=unit.partition_key,
        asset_selection=[AssetKey(table) for table in tables],
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={RUN_TAG: str(os.getpid())},
    )


def _bury_the_dead(instance: DagsterInstance) -> None:
    """Marks runs of an earlier, killed `deeper run` as failed; in the UI they would seem to go on forever.

    Only runs of this command, and only while this process holds the home's lock, so that none is at work.
    """
    unfinished = [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED]
    for run in instance.get_runs(RunsFilter(statuses=unfinished)):
        if RUN_TAG in run.tags:
            instance.report_run_failed(run, "the process that ran it was killed")


@contextmanager
def _alone_in(home: Path) -> Iterator[None]:
    """Holds the home for this process; the lock goes with the process, however it ends."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "run.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise DeeperError(
                f"another `deeper run` (process {file.read().strip() or 'unknown'}) is at work in {home}; "
                "wait for it, or give --home another folder"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def quiet_dagster() -> None:
    """Keeps Dagster's own log lines off the terminal; they are all in the run's page in the UI."""
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
