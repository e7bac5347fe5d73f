"""What the schedule has re-evaluated, as the event log in the home folder remembers it."""

from collections.abc import Iterable, Mapping

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    RunsFilter,
)
from dagster._core.event_api import EventLogRecord
from dagster._core.storage.tags import PARTITION_NAME_TAG

from deeper_assets.instance import TICK_TAG
from deeper_assets.jobs import TABLES_JOB
from deeper_assets.reports.page import ReEvaluation

TABLE = AssetKey("mae_table")
"""Its metadata has the macro average of every method, floor and round."""


def re_evaluations(instance: DagsterInstance, at_most: int = 10) -> list[ReEvaluation]:
    """The last re-evaluations that the schedule asked for, the latest first."""
    ticks = sorted({tick for _, ticks in instance.get_run_tags([TICK_TAG]) for tick in ticks}, reverse=True)
    return [_of_tick(instance, tick) for tick in ticks[:at_most]]


def _of_tick(instance: DagsterInstance, tick: str) -> ReEvaluation:
    runs = list(instance.get_runs(RunsFilter(tags={TICK_TAG: tick})))
    evaluations = [run for run in runs if run.job_name != TABLES_JOB.name]
    tables = [record for run in runs if (record := _table_of(instance, run)) is not None]
    before, after = None, None
    if tables:
        after = max(tables, key=lambda record: record.storage_id)
        earlier = AssetRecordsFilter(TABLE, before_storage_id=after.storage_id)
        before = next(iter(instance.fetch_materializations(earlier, limit=1).records), None)
    return ReEvaluation(
        tick,
        _partitions(run for run in evaluations if run.status == DagsterRunStatus.SUCCESS),
        _partitions(run for run in evaluations if run.status == DagsterRunStatus.FAILURE),
        _last_round(before),
        _last_round(after),
    )


def _partitions(runs: Iterable[DagsterRun]) -> list[str]:
    return sorted({run.tags[PARTITION_NAME_TAG] for run in runs})


def _table_of(instance: DagsterInstance, run: DagsterRun) -> EventLogRecord | None:
    """What a run has told of the table that it made; None where it made none."""
    kind = DagsterEventType.ASSET_MATERIALIZATION
    records = instance.get_records_for_run(run.run_id, of_type=kind).records
    return next((one for one in records if one.asset_key == TABLE), None)


def _last_round(record: EventLogRecord | None) -> Mapping[str, float]:
    """The figures of the last round, by method and floor."""
    event = record.asset_materialization if record else None
    rounds: dict[int, dict[str, float]] = {}
    for name, value in (event.metadata if event else {}).items():
        method, _, number = name.rpartition(" round ")
        if method and isinstance(value.value, float):
            rounds.setdefault(int(number), {})[method] = value.value
    return rounds[max(rounds)] if rounds else {}
