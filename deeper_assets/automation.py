"""What happens in the UI by itself: the schedule, the sensors, and the job that makes what is stale.

A sensor runs in the process that has loaded the code location. So what it says is of the settings that the UI
shows.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TypeVar

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRun,
    DefaultScheduleStatus,
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

from deeper_assets.assets.evaluation import MEASURED
from deeper_assets.engines.process_group import ends_with_me, stop
from deeper_assets.instance import FOLLOWS_TAG, TICK_TAG, bury_if_dead, corrections, is_of_command, prune
from deeper_assets.jobs import CONTROLS_JOB, EVALUATION, PERSONAS, REMEMBERING, TABLES_JOB
from deeper_assets.method.exceptions import DeeperError, one_line
from deeper_assets.planning import Planner, Stored, Unit, read_first
from deeper_assets.resources import Experiment
from deeper_assets.store.ledger import Version, digest

Result = TypeVar("Result")


def build_jobs(experiment: Experiment, planner: Callable[[], Planner]) -> list[JobDefinition]:
    """Jobs that make no table themselves."""

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
            bury_if_dead(context.instance, experiment.home)  # it may have been terminated
        if status:
            raise Failure(last or f"the command has ended with exit code {status}; its reasons stand above")

    @job
    def materialize_stale() -> None:
        """Makes exactly what is missing or stale, as `deeper run` does; a run of its own for each unit."""
        deeper_run()

    @op
    def prune_runs(context: OpExecutionContext) -> None:
        """Deletes runs that are older than `event_log_days`, but for those that lineage names."""
        prune(context.instance, planner())

    @job
    def prune_event_log() -> None:
        """Makes the event log smaller, as the setting `event_log_days` says."""
        prune_runs()

    return [materialize_stale, *([prune_event_log] if experiment.settings.event_log_days else [])]


def build_schedules(experiment: Experiment, planner: Callable[[], Planner]) -> list[ScheduleDefinition]:
    """The re-evaluation, off until it is switched on; and the pruning, where a setting asks for it."""

    @schedule(job=EVALUATION, cron_schedule=experiment.settings.re_evaluation_cron)
    def re_evaluation(context: ScheduleEvaluationContext) -> Iterator[RunRequest]:
        """Plays the rounds again of domains and methods whose evaluation is stale. The rest follows.

        Nothing is evaluated whose histories, personas or policies are missing or stale: that is for
        `materialize_stale`. With the setting `re_evaluation: all`, what is not stale is played again too.
        """
        tick = context.scheduled_execution_time.isoformat(timespec="minutes")
        for unit, tables in due(planner(), EVALUATION.name, experiment.settings.re_evaluation == "all"):
            yield RunRequest(
                partition_key=unit.partition_key,
                run_key=f"{tick} {unit.partition_key}",
                asset_selection=[AssetKey(table) for table in tables],
                tags={TICK_TAG: tick},
            )

    pruning = ScheduleDefinition(
        name="pruning",
        job_name="prune_event_log",
        cron_schedule="0 5 * * *",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Makes the event log smaller every day.",
    )
    return [re_evaluation, *([pruning] if experiment.settings.event_log_days else [])]


def due(planner: Planner, job: str, whole: bool = False) -> Iterator[tuple[Unit, list[str]]]:
    """The units of a job whose inputs are up to date, with their stale tables; if `whole`, with all."""
    stored = planner.stored()
    held_up: set[Unit] = set()
    for unit, before in planner.units().items():  # each after those it needs
        try:
            stale = planner.stale(unit.tables, unit.partition_key, stored)
        except DeeperError:  # a source that is not there
            stale = list(unit.tables)
        if before.needs & held_up or (stale and unit.job != job):
            held_up.add(unit)
        elif unit.job == job and (stale or whole):
            yield unit, list(unit.tables) if whole else stale


def build_sensors(experiment: Experiment, planner: Callable[[], Planner]) -> list[SensorDefinition]:
    """What notices changes. What keeps the UI true is on; what would start more than was asked for is off."""
    logs = experiment.logs
    induced = logs if "induction" in experiment.settings.branches else []

    @sensor(jobs=[PERSONAS, *([REMEMBERING] if induced else [])], minimum_interval_seconds=60)
    def source_files(context: SensorEvaluationContext) -> SensorResult:
        """Asks for exactly the domains whose source files are new or changed."""
        before = json.loads(context.cursor) if context.cursor else {}
        now = {
            name: listing
            for name, listing in _listings(experiment).items()
            if listing and (name in induced or name not in logs)
        }
        graph = planner().graph
        touched = [
            name
            for name, listing in now.items()
            if listing != before.get(name)
            and (name in before or not graph.is_stored(read_first(experiment, name), {"domain": name}))
        ]
        requests = [
            RunRequest(
                f"{name}:{now[name]}",
                job_name=(REMEMBERING if name in logs else PERSONAS).name,
                partition_key=name,
            )
            for name in touched
        ]
        return SensorResult(run_requests=requests, cursor=json.dumps(now))

    @sensor(minimum_interval_seconds=10, default_status=DefaultSensorStatus.RUNNING)
    def staleness(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        """Keeps what is called stale here the same as what `deeper run` would make; it starts no run."""
        bury_if_dead(context.instance, experiment.home)
        return _or_skip(lambda: _corrected(context, experiment, planner()))

    @sensor(
        jobs=[CONTROLS_JOB, TABLES_JOB],
        minimum_interval_seconds=15,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def refresh_tables(context: SensorEvaluationContext) -> list[RunRequest] | SkipReason:
        """When what was started here or by the schedule has new errors: controls, then tables."""
        return _or_skip(lambda: _followed(context.instance, planner()))

    return [source_files, staleness, refresh_tables]


def _corrected(
    context: SensorEvaluationContext, experiment: Experiment, planner: Planner
) -> SensorResult | SkipReason:
    """The corrections that are due since the last tick.

    Settings and sources change at once. What runs store and ask is looked at when they have ended.
    """
    before = json.loads(context.cursor) if context.cursor else {}
    assets = planner.assets
    last = max((version.version for version in planner.stored().values()), default=0)
    versions = {table: assets.get(AssetKey(table)).code_version for table in planner.order}
    settings, sources = digest(versions), _listings(experiment)
    now = {"settings": settings, "sources": sources, "made": digest([last, experiment.usage().to_csv()])}
    if now == before:
        return SkipReason("Settings, sources and tables are as they were.")
    if now == {**before, "made": now["made"]} and _at_work(context.instance):
        return SkipReason("Something is being made.")
    known = before.get("sources", {})
    changed = [domain for domain, listing in sources.items() if listing != known.get(domain)]
    events = list(corrections(context.instance, planner, changed))
    return SensorResult(asset_events=events, cursor=json.dumps(now))


def _or_skip(tick: Callable[[], Result]) -> Result | SkipReason:
    """What a tick gives; skipped with the reason where the warehouse is held for long, until the next one."""
    try:
        return tick()
    except DeeperError as error:
        return SkipReason(one_line(error))


def _followed(instance: DagsterInstance, planner: Planner) -> list[RunRequest] | SkipReason:
    """What has to follow new errors: the controls of their domains that are due, once; then the tables.

    Ceilings have no controls.
    """
    if "refinement" not in planner.graph.experiment.settings.branches:
        return SkipReason("The branch whose errors the tables show is not made.")
    if _at_work(instance):
        return SkipReason("Something is being made.")
    stored = planner.stored()
    waiting = _not_followed(stored)
    run = _started_here(instance, waiting)
    unit = planner.unit(TABLES_JOB.name, None)
    stale = planner.stale(unit.tables, None, stored) if run else []
    if run is None or not stale:
        return SkipReason("No error that was measured here waits for its tables.")
    first = run.tags.get(FOLLOWS_TAG, run.run_id)
    tags = {name: value for name, value in run.tags.items() if name == TICK_TAG} | {FOLLOWS_TAG: first}
    follow = [(unit, stale)]
    if instance.get_runs_count(RunsFilter(job_name=CONTROLS_JOB.name, tags={FOLLOWS_TAG: first})) == 0:
        # No control reads a ceiling.
        domains = {one.partition["domain"] for one in waiting if one.table != "ceiling_errors"}
        controls = due(planner, CONTROLS_JOB.name)
        follow = [one for one in controls if _domain(planner, one[0]) in domains] or follow
    return [
        RunRequest(
            f"{first} {one.partition_key or ''}".rstrip(),
            job_name=one.job,
            partition_key=one.partition_key,
            asset_selection=[AssetKey(table) for table in tables],
            tags=tags,
        )
        for one, tables in follow
    ]


def _domain(planner: Planner, unit: Unit) -> str:
    return planner.columns(unit.tables[0], unit.partition_key)["domain"]


def _at_work(instance: DagsterInstance) -> bool:
    """Whether a run has not ended; not one that began more than a day ago, which may be dead."""
    recently = datetime.now(UTC) - timedelta(days=1)
    wanted = RunsFilter(statuses=NOT_FINISHED_STATUSES, updated_after=recently)
    return instance.get_runs_count(wanted) > 0


def _not_followed(stored: Stored) -> list[Version]:
    """The errors of methods, controls and ceilings that the tables are older than, the latest first."""
    tables = max((one.version for one in stored.values() if one.table == "mae_table"), default=0)
    later = [one for one in stored.values() if one.table in MEASURED and one.version > tables]
    return sorted(later, key=lambda one: one.version, reverse=True)


def _started_here(instance: DagsterInstance, versions: Iterable[Version]) -> DagsterRun | None:
    """The first run of these that was started in the UI; `deeper run` makes the tables itself."""
    for version in versions:
        run = instance.get_run_by_id(version.run_id)
        if run is not None and not is_of_command(run):
            return run
    return None


def _listings(experiment: Experiment) -> dict[str, str]:
    return {name: file_listing(experiment, name) for name in experiment.domains_in_force}


def file_listing(experiment: Experiment, domain: str) -> str:
    """A short hash of a domain's source files, their sizes and times of change; empty where it has no files.

    A sensor looks often, so it does not read the files; the fingerprint of raw_ratings does.
    """
    try:
        files = (experiment.log(domain) or experiment.source(domain)).files()
    except DeeperError:  # the folder is not there (yet): nothing to ask for
        return ""
    listing = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    return sha256(json.dumps(listing).encode()).hexdigest()[:16] if listing else ""
