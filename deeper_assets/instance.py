"""The Dagster instance in a home folder, and what its event log says of units."""

import fcntl
import logging
import os
import shutil
import sqlite3
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetMaterialization,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    JobDefinition,
    MetadataValue,
    RunsFilter,
)
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.data_version import CODE_VERSION_TAG, DATA_VERSION_TAG
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from sqlalchemy import Engine
from sqlalchemy.event import listens_for

from deeper_assets.lineage import ancestry
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.planning import Key, Planner, Stored, Unit
from deeper_assets.store.ledger import canonical_json
from deeper_assets.ui import LOCATION, MODULE, instance_folder

RUN_TAG = "deeper/command"
"""Of runs of `deeper run`: the number of its process."""

TICK_TAG = "deeper/re_evaluation"
"""Of runs that the schedule asked for, and of what followed them: the time of its tick."""

FOLLOWS_TAG = "deeper/follows"
"""Of controls and tables that followed new errors by themselves: the id of the run that measured them."""


@listens_for(Engine, "connect")
def _wait_less_for_the_disk(connection: object, _: object) -> None:
    """Of SQLite, Dagster's alone here: a commit is on the disk when its log is folded into the file.

    Only a power cut can lose the last ones, and no file breaks. What has been made is in the warehouse.
    """
    if isinstance(connection, sqlite3.Connection):
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":  # without such a log, a power cut could break the file
            connection.execute("PRAGMA synchronous = NORMAL")


def open_instance(home: Path) -> DagsterInstance:
    """The Dagster instance in the home folder, made where there is none."""
    folder = instance_folder(home)
    # The configuration names its folder by this variable, so that a home can be moved.
    os.environ["DAGSTER_HOME"] = str(folder)
    return DagsterInstance.from_config(str(folder))


@contextmanager
def instance_to_read(home: Path) -> Iterator[DagsterInstance]:
    """The Dagster instance in the home folder; of a home that cannot be written, a copy of it."""
    folder = home / "dagster"
    if not folder.exists() or os.access(folder, os.W_OK):
        with open_instance(home) as instance:
            yield instance
        return
    with TemporaryDirectory(prefix="deeper-") as copy:  # SQLite and Dagster write also where they only read
        shutil.copytree(folder, Path(copy, "dagster"))
        with open_instance(Path(copy)) as instance:
            yield instance


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
    instance: DagsterInstance, graph: AssetGraph, unit: Unit, *, blocking_only: bool
) -> Mapping[AssetCheckKey, AssetCheckExecutionRecord]:
    """What became of the checks on a unit's tables the last time they were planned for it."""
    keys = [
        key
        for key in graph.asset_check_keys
        if key.asset_key.to_user_string() in unit.tables and (graph.get(key).blocking or not blocking_only)
    ]
    partition = PartitionKeyFilter(key=unit.partition_key)
    return instance.event_log_storage.get_latest_asset_check_execution_by_key(keys, partition)


@contextmanager
def alone_in(home: Path) -> Iterator[None]:
    """Holds the home for this process; the lock goes with the process, however it ends.

    Raises:
        DeeperError: a `deeper run` holds it.
    """
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


def bury_the_dead(instance: DagsterInstance) -> None:
    """Marks runs of an earlier, killed `deeper run` as failed; in the UI they would seem to go on forever.

    Only runs of this command, and only while this process holds the home's lock, so that none is at work.
    """
    for run in _unfinished(instance):
        instance.report_run_failed(run, "the process that ran it was killed")


def bury_if_dead(instance: DagsterInstance, home: Path) -> None:
    """Does that if no `deeper run` is at work: whoever waits for a turn would wait for its runs forever."""
    if _unfinished(instance):
        with suppress(DeeperError), alone_in(home):
            bury_the_dead(instance)


def _unfinished(instance: DagsterInstance) -> list[DagsterRun]:
    """Runs of `deeper run` that have not ended."""
    unfinished = [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED]
    return [run for run in instance.get_runs(RunsFilter(statuses=unfinished)) if is_of_command(run)]


def is_of_command(run: DagsterRun) -> bool:
    """Whether `deeper run` began it. The UI copies tags when it executes a run again."""
    return RUN_TAG in run.tags and run.parent_run_id is None


def corrections(
    instance: DagsterInstance, planner: Planner, sources: Collection[str]
) -> Iterator[AssetMaterialization]:
    """Events that make the UI call stale what the planner calls stale, where it would not by itself.

    The UI compares one code version a table with that of each partition's last event. So it marks every
    partition when a setting changes that concerns one of them, and none when a source file changes. The last
    event of such a partition is repeated: with the code version of now where nothing is to be made again, and
    with one that no table has where something is.

    Args:
        instance: whose log it is.
        planner: says what is stale.
        sources: domains whose source files may have changed; only these are read, since files may be large.
    """
    stored = planner.stored()
    for table in planner.order:
        version = str(planner.assets.get(AssetKey(table)).code_version)
        events = _last_events(instance, AssetKey(table))
        for key in planner.made(table, stored):
            partition = planner.columns(table, key)
            known, event = stored[table, canonical_json(partition)], events.get(str(key) if key else None)
            tags = dict(event.tags or {}) if event else {}
            if event is None or tags.get(DATA_VERSION_TAG) != known.content:
                continue  # a run is about to log what it has stored
            fresh = tags.get(CODE_VERSION_TAG) == version
            if fresh and partition.get("domain") not in sources and planner.graph.outside(table, partition):
                continue
            if _wrongly_called(planner, table, key, stored, fresh):
                tags[CODE_VERSION_TAG] = "outdated" if fresh else version
                note = MetadataValue.text(OUTDATED if fresh else CONFIRMED)
                made_by = MetadataValue.dagster_run(known.run_id)
                metadata = {**event.metadata, "made by": made_by, "note": note}
                yield AssetMaterialization(event.asset_key, None, metadata, event.partition, tags)


CONFIRMED = "Up to date under the settings as they are now."
OUTDATED = "Not up to date: source files or the journal have changed since."


def _wrongly_called(planner: Planner, table: str, key: Key, stored: Stored, fresh: bool) -> bool:
    """Whether a partition whose values are called fresh is made otherwise by now, or the other way round."""
    try:
        if fresh:
            return planner.is_made_otherwise(table, key, stored)
        return not planner.stale([table], key, stored)
    except DeeperError:  # a source that cannot be read; who asks for this table is told
        return False


def _last_events(instance: DagsterInstance, table: AssetKey) -> Mapping[str | None, AssetMaterialization]:
    """The last materialization of each partition of a table; of the table, under None, if it has none."""
    kind = DagsterEventType.ASSET_MATERIALIZATION
    ids = list(instance.event_log_storage.get_latest_storage_id_by_partition(table, kind).values())
    wanted = AssetRecordsFilter(table, storage_ids=ids) if ids else table
    records = instance.fetch_materializations(wanted, limit=len(ids) or 1).records
    events = [record.asset_materialization for record in records]
    return {event.partition: event for event in events if event is not None}


def prune(instance: DagsterInstance, planner: Planner) -> None:
    """Deletes old runs and their events, as `event_log_days` says, but for those that lineage names.

    Repeated events belong to no run. They are deleted, and those that are still needed are told again.
    """
    experiment = planner.graph.experiment
    days = experiment.settings.event_log_days
    if days is None:
        return
    needed = {version.run_id for version in ancestry(experiment.warehouse)}
    old = RunsFilter(statuses=FINISHED_STATUSES, created_before=datetime.now(UTC) - timedelta(days=days))
    for run in instance.get_runs(old):
        if run.run_id not in needed:
            instance.delete_run(run.run_id)
    instance.event_log_storage.delete_events(RUNLESS_RUN_ID)
    for event in corrections(instance, planner, sources=experiment.domains_in_force):
        instance.report_runless_asset_event(event)


def quiet_dagster() -> None:
    """Keeps Dagster's own log lines off the terminal; they are all in the run's page in the UI."""
    logging.getLogger("dagster").setLevel(logging.CRITICAL)


def show_readings() -> None:
    """Puts what sources tell of long readings on standard error; it is in the run's page as well."""
    logger = logging.getLogger("deeper_assets.sources")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
