"""What happens in the UI by itself: the schedule, the sensors, and the job that makes what is stale.

A sensor runs in the process that has loaded the code location. So what it says is of the settings that the UI
shows.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRun,
    DefaultSensorStatus,
    Failure,
    JobDefinition,
    OpExecutionContext,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    job,
    op,
    schedule,
    sensor,
)
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from deeper_assets.engines.process_group import ends_with_me, stop
from deeper_assets.instance import RUN_TAG, TICK_TAG, corrections, prune
from deeper_assets.jobs import EVALUATION, PERSONAS, TABLES_JOB
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.planning import Planner, Unit
from deeper_assets.resources import Experiment
from deeper_assets.store.ledger import digest


def build_job(experiment: Experiment) -> JobDefinition:
    """The job that does what `deeper run` does, for a click."""

    @op
    def deeper_run(context: OpExecutionContext) -> None:
        """Runs the command; the progress that it tells goes to the log of this run."""
        command = [sys.executable, "-m", "deeper_assets.cli", "run", "--home", str(experiment.home)]
        process = subprocess.Popen(
            ends_with_me(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        last = ""
        try:
            for line in process.stdout or ():
                if text := line.decode(errors="replace").rstrip():
                    context.log.info(text)
                    last = text if text.startswith("deeper: ") else last
            status = process.wait()
        finally:
            stop(process)
        if status:
            raise Failure(last or f"the command has ended with exit code {status}; its reasons stand above")

    @job
    def materialize_stale() -> None:
        """Makes exactly what is missing or stale, as `deeper run` does; a run of its own for each unit."""
        deeper_run()

    return materialize_stale


def build_schedule(experiment: Experiment, planner: Callable[[], Planner]) -> ScheduleDefinition:
    """The re-evaluation of every domain by every method at hand; off until it is switched on."""

    @schedule(job=EVALUATION, cron_schedule=experiment.settings.re_evaluation_cron)
    def re_evaluation(context: ScheduleEvaluationContext) -> Iterator[RunRequest]:
        """Plays the rounds again of domains and methods whose evaluation is stale; the tables follow.

        What is made before an evaluation is not made: where it is missing, so is the evaluation. With the
        setting `re_evaluation: all`, what is not stale is played again too.
        """
        prune(context.instance, experiment)
        tick = context.scheduled_execution_time.isoformat(timespec="minutes")
        for unit, tables in evaluations(planner(), whole=experiment.settings.re_evaluation == "all"):
            yield RunRequest(
                partition_key=unit.partition_key,
                run_key=f"{tick} {unit.partition_key}",
                asset_selection=[AssetKey(table) for table in tables],
                tags={TICK_TAG: tick, "deeper/evaluates": str(unit.partition_key)},
            )

    return re_evaluation


def evaluations(planner: Planner, whole: bool) -> Iterator[tuple[Unit, list[str]]]:
    """Evaluations that can be made of what is stored, with their stale tables; if `whole`, with all."""
    stored = planner.stored()
    for unit in planner.units():
        if unit.job == EVALUATION.name and planner.is_ready(unit, stored):
            stale = planner.stale(unit.tables, unit.partition_key, stored)
            if stale or whole:
                yield unit, list(unit.tables) if whole else stale


def build_sensors(experiment: Experiment, planner: Callable[[], Planner]) -> list[SensorDefinition]:
    """What notices changes. The two that only keep the UI true are on; the one that can cost is off."""

    @sensor(job=PERSONAS, minimum_interval_seconds=60)
    def source_files(context: SensorEvaluationContext) -> SensorResult:
        """Asks for exactly the domains whose source files are new or changed."""
        before = json.loads(context.cursor) if context.cursor else {}
        now = {
            name: listing
            for name in experiment.domains_in_force
            if (listing := file_listing(experiment, name))
        }
        graph = planner().graph
        touched = [
            name
            for name, listing in now.items()
            if listing != before.get(name)
            and (name in before or not graph.is_stored("raw_ratings", {"domain": name}))
        ]
        requests = [RunRequest(partition_key=name, run_key=f"{name}:{now[name]}") for name in touched]
        return SensorResult(run_requests=requests, cursor=json.dumps(now))

    @sensor(minimum_interval_seconds=10, default_status=DefaultSensorStatus.RUNNING)
    def staleness(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        """Keeps what is called stale here the same as what `deeper run` would make; it starts no run."""
        assets = planner().assets
        versions = {table: assets.get(AssetKey(table)).code_version for table in planner().order}
        listings = {name: file_listing(experiment, name) for name in experiment.domains_in_force}
        now = digest([versions, listings, experiment.usage().to_csv()])
        if now == context.cursor:
            return SkipReason("Settings and sources are as they were.")
        return SensorResult(asset_events=list(corrections(context.instance, planner())), cursor=now)

    @sensor(job=TABLES_JOB, minimum_interval_seconds=15, default_status=DefaultSensorStatus.RUNNING)
    def refresh_tables(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        """Makes the tables again when evaluations that were started here, or by the schedule, have ended."""
        run = _not_followed(context.instance, experiment)
        unit = planner().unit(TABLES_JOB.name, None)
        stale = planner().stale(unit.tables, None, planner().stored()) if run else []
        if run is None or not stale:
            return SkipReason("No evaluation that was started here waits for its tables.")
        tags = {TICK_TAG: run.tags[TICK_TAG]} if TICK_TAG in run.tags else {}
        return RunRequest(run.run_id, asset_selection=[AssetKey(table) for table in stale], tags=tags)

    return [source_files, staleness, refresh_tables]


def _not_followed(instance: DagsterInstance, experiment: Experiment) -> DagsterRun | None:
    """The run of the latest evaluation, if the tables are older; None while anything is being made.

    `deeper run` makes the tables itself. A run that has said nothing for a day is taken for dead.
    """
    recently = datetime.now(UTC) - timedelta(days=1)
    if instance.get_runs_count(RunsFilter(statuses=NOT_FINISHED_STATUSES, updated_after=recently)):
        return None
    current = experiment.warehouse.current
    evaluated = max(current("round_errors"), key=lambda one: one.version, default=None)
    if evaluated is None or any(one.version > evaluated.version for one in current("mae_table")):
        return None
    run = instance.get_run_by_id(evaluated.run_id)
    return None if run is None or (RUN_TAG in run.tags and run.parent_run_id is None) else run


def file_listing(experiment: Experiment, domain: str) -> str:
    """A short hash of a domain's source files, their sizes and times of change; empty where it has no files.

    A sensor looks often, so it does not read the files; the fingerprint of raw_ratings does.
    """
    try:
        files = experiment.source(domain).files()
    except DeeperError:  # the folder is not there (yet): nothing to ask for
        return ""
    listing = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    return sha256(json.dumps(listing).encode()).hexdigest()[:16] if listing else ""
