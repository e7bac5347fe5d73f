"""The Dagster instance in a home folder: its configuration, and what its event log says of units."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetMaterialization,
    AssetRecordsFilter,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    JobDefinition,
    RunsFilter,
)
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.data_version import CODE_VERSION_TAG
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.planning import Key, Planner, Stored, Unit
from deeper_assets.ui import WORKSPACE

RUN_TAG = "deeper/command"

LOCATION, MODULE = "deeper_assets", "deeper_assets.definitions"

# One event log file for all runs: with Dagster's default, a file a run, opening them took half of the time.
# No files of what steps print (they print nothing): Dagster starts two processes a step to watch them.
DAGSTER_YAML = """\
# The Dagster instance of this experiment; `dagster dev` shows it when DAGSTER_HOME names this folder.
telemetry:
  enabled: false
nux:
  enabled: false
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config:
    base_dir:
      env: DAGSTER_HOME
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
concurrency:
  runs:
    max_concurrent_runs: 2
"""


WORKSPACE_YAML = f"""\
load_from:
  - python_module:
      module_name: {MODULE}
      location_name: {LOCATION}
"""


def open_instance(home: Path) -> DagsterInstance:
    """The Dagster instance in the home folder, made where there is none."""
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("dagster.yaml", DAGSTER_YAML), (WORKSPACE, WORKSPACE_YAML)):
        if not (folder / name).exists():
            (folder / f"{name}.partial").write_text(text, encoding="utf-8")
            (folder / f"{name}.partial").replace(folder / name)
    # The configuration names its folder by this variable, so that a home can be moved.
    os.environ["DAGSTER_HOME"] = str(folder)
    return DagsterInstance.from_config(str(folder))


def begin(
    instance: DagsterInstance, job: JobDefinition, unit: Unit, tables: Sequence[str], tags: Mapping[str, str]
) -> DagsterRun:
    """A run of a unit that has not started: as the UI would have launched it, for its timeline and its pages.

    `execute_in_process` would record no code location: Dagster's timeline passes over such runs, and they
    cannot be executed again (dagster issues 19458 and 17707).
    """
    keys = frozenset(AssetKey(table) for table in tables)
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=MODULE)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, LOCATION)
    origin = RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME).get_job_origin(unit.job)
    cut = job.get_tags_for_partition_key(unit.partition_key, keys) if unit.partition_key else {}
    return instance.create_run_for_job(
        job.get_subset(asset_selection=keys),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={**cut, **tags},
        asset_selection=keys,
        remote_job_origin=origin,
    )


def latest_checks(
    instance: DagsterInstance, graph: AssetGraph, unit: Unit
) -> Mapping[AssetCheckKey, AssetCheckExecutionRecord]:
    """What became of the blocking checks on a unit's tables the last time they were planned for it."""
    keys = [
        key
        for key in graph.asset_check_keys
        if key.asset_key.to_user_string() in unit.tables and graph.get(key).blocking
    ]
    partition = PartitionKeyFilter(key=unit.partition_key)
    return instance.event_log_storage.get_latest_asset_check_execution_by_key(keys, partition)


def bury_the_dead(instance: DagsterInstance) -> None:
    """Marks runs of an earlier, killed `deeper run` as failed; in the UI they would seem to go on forever.

    Only runs of this command, and only while this process holds the home's lock, so that none is at work.
    """
    unfinished = [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED]
    for run in instance.get_runs(RunsFilter(statuses=unfinished)):
        if RUN_TAG in run.tags and run.parent_run_id is None:  # the UI copies tags when it executes one again
            instance.report_run_failed(run, "the process that ran it was killed")


def confirm(instance: DagsterInstance, planner: Planner) -> None:
    """Tells the UI, by events in its log, that tables are up to date that it takes for stale.

    The UI compares one code version a table, which changes with a setting of any of its partitions. The
    partitions that the setting does not concern are not made again: their last event is repeated with the
    new version.
    """
    stored = planner.stored()
    for table in planner.order:
        version = planner.assets.get(AssetKey(table)).code_version
        for key in planner.made(table, stored):
            event = _latest(instance, AssetKey(table), key)
            tags = dict(event.tags or {}) if event else {}
            if (
                event is None
                or tags.get(CODE_VERSION_TAG) == version
                or not _fresh(planner, table, key, stored)
            ):
                continue
            instance.report_runless_asset_event(
                AssetMaterialization(
                    event.asset_key,
                    description="Up to date under the settings as they are now.",
                    metadata=event.metadata,
                    partition=event.partition,
                    tags={**tags, CODE_VERSION_TAG: str(version)},
                )
            )


def _fresh(planner: Planner, table: str, key: Key, stored: Stored) -> bool:
    try:
        return not planner.stale([table], key, stored)
    except DeeperError:  # a source that cannot be read; who asks for this table is told
        return False


def _latest(instance: DagsterInstance, table: AssetKey, key: Key) -> AssetMaterialization | None:
    """The last materialization of a table's partition."""
    wanted = AssetRecordsFilter(table, asset_partitions=[str(key)] if key else None)
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].asset_materialization if records else None


def quiet_dagster() -> None:
    """Keeps Dagster's own log lines off the terminal; they are all in the run's page in the UI."""
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
