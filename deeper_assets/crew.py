"""Who makes units: this process, or worker processes beside it; and what their checks warn of."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.util import Finalize
from pathlib import Path

from dagster import AssetCheckKey, AssetCheckSeverity, DagsterInstance, Definitions
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster._core.events import JobFailureData
from dagster._core.execution.api import execute_run
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._utils.error import serializable_error_info_from_exc_info

from deeper_assets.definitions import build_definitions
from deeper_assets.engines.sampling.server_keeper import PARENT as SAMPLING_PARENT
from deeper_assets.explaining import explained
from deeper_assets.instance import (
    RUN_TAG,
    begin,
    latest_checks,
    open_instance,
    quiet_dagster,
    show_readings,
)
from deeper_assets.planning import Unit
from deeper_assets.resources import Experiment
from deeper_assets.settings import Settings

WAITING_FOR_BATCHES = 16
"""Worker processes where the chat model is asked in batches: one after another would wait for days."""


@dataclass(frozen=True)
class Failure:
    """Why a unit could not be made: one readable line, and the traceback for whoever asks for it."""

    reason: str
    details: str


@dataclass(frozen=True)
class Worker:
    """What a process needs to make units: the definitions and the home's Dagster instance."""

    experiment: Experiment

    @cached_property
    def definitions(self) -> Definitions:
        """The graph."""
        return build_definitions(self.experiment)

    @cached_property
    def instance(self) -> DagsterInstance:
        """The Dagster instance in the home folder."""
        return open_instance(self.experiment.home)

    def make(self, unit: Unit, tables: Sequence[str]) -> Failure | None:
        """Makes these tables of a unit in one Dagster run; what went wrong, if anything did."""
        job = self.definitions.resolve_job_def(unit.job)
        try:
            run = begin(self.instance, job, unit, tables, _tags())
            execute_run(InMemoryJob(job), run, self.instance, raise_on_error=True)
        except DagsterAssetCheckFailedError:
            return Failure(self._failed_checks(unit), traceback.format_exc())
        except Exception as error:  # noqa: BLE001 - told to the user by name; the other units go on
            return Failure(explained(error, self.experiment.home), traceback.format_exc())
        return None

    def report_unplanned(self, unit: Unit) -> None:
        """Records a failed run of a unit that an error just kept from being planned: the UI shows it red."""
        job = self.definitions.resolve_job_def(unit.job)
        run = begin(self.instance, job, unit, unit.tables, _tags())
        reason = serializable_error_info_from_exc_info(sys.exc_info())
        self.instance.report_run_failed(run, reason.message, JobFailureData(reason))

    def _failed_checks(self, unit: Unit) -> str:
        """One line with the descriptions of the blocking checks that failed."""
        graph = self.definitions.resolve_asset_graph()
        failed = _failures(latest_checks(self.instance, graph, unit, blocking_only=True))
        told = [f"{_named(key)}: {evaluation.description}" for key, evaluation in failed]
        return f"stopped by a check on {'; '.join(told)}"

    def warnings(self, units: Iterable[Unit]) -> list[str]:
        """One line a check that warns of something in any of these units: where, and what of the first."""
        graph = self.definitions.resolve_asset_graph()
        warned: dict[AssetCheckKey, list[tuple[str, str]]] = {}
        for unit in units:
            checks = latest_checks(self.instance, graph, unit, blocking_only=False)
            for key, evaluation in _failures(checks):
                if evaluation.severity == AssetCheckSeverity.WARN:
                    of = str(unit.partition_key or "")
                    warned.setdefault(key, []).append((of, str(evaluation.description)))
        return [f"{_named(key)}: {_warning(told)}" for key, told in warned.items()]


def _failures(
    records: Mapping[AssetCheckKey, AssetCheckExecutionRecord],
) -> Iterator[tuple[AssetCheckKey, AssetCheckEvaluation]]:
    for key, record in records.items():
        event = record.event.dagster_event if record.event else None
        if record.status == AssetCheckExecutionRecordStatus.FAILED and event is not None:
            yield key, event.asset_check_evaluation_data


def _named(key: AssetCheckKey) -> str:
    return f"{key.asset_key.to_user_string()}: {key.name}"


def _warning(told: Sequence[tuple[str, str]]) -> str:
    """What a check warns of in its first partition, and how many others there are."""
    partition, description = told[0]
    others = f" (and {len(told) - 1} more partitions)" if len(told) > 1 else ""
    return f"{partition}{': ' if partition else ''}{description}{others}"


def _tags() -> dict[str, str]:
    return {RUN_TAG: str(os.getpid())}


@dataclass
class Crew:
    """Makes units, in worker processes where there is more than one to make."""

    worker: Worker
    pool: ProcessPoolExecutor | None = None
    at_work: dict["Future[Failure | None]", tuple[Unit, list[str]]] = field(default_factory=dict)

    def __enter__(self) -> "Crew":
        os.environ[SAMPLING_PARENT] = str(os.getpid())
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)
            if any(map(_lost_its_worker, wait(self.at_work).done)):
                _end_workers()
            self.pool.shutdown()
        del os.environ[SAMPLING_PARENT]
        if self.worker.experiment.fills_gpu:
            self.worker.experiment.dismiss_host()

    @cached_property
    def size(self) -> int:
        """How many units are made at a time."""
        settings = self.worker.experiment.settings
        if settings.chat.engine != "offline" and settings.chat.mode == "batch":
            return settings.processes or WAITING_FOR_BATCHES
        # One more than the cores: a unit waits now and then, for DuckDB, SQLite or the disk.
        cores = os.cpu_count() or 1
        return settings.processes or (min(cores + 1, 4) if cores > 1 else 1)

    @property
    def has_room(self) -> bool:
        """Whether another unit would be begun at once."""
        return len(self.at_work) < self.size

    def start(self, unit: Unit, tables: list[str], alone: bool) -> None:
        """Begins to make a unit's tables; one that is alone is made here, if there are no workers yet."""
        if self.size == 1 or (alone and self.pool is None and not self.at_work):
            done: Future[Failure | None] = Future()
            done.set_result(self.worker.make(unit, tables))
        else:
            try:
                done = self._workers().submit(_make_in_worker, unit, tables)
            except BrokenProcessPool:  # a pool that has lost a worker takes no more work
                self._drop_pool()
                done = self._workers().submit(_make_in_worker, unit, tables)
        self.at_work[done] = unit, tables

    def finished(self) -> Iterator[tuple[Unit, list[str], Failure | None]]:
        """Waits for a unit; those that are done, with their tables and what went wrong, if anything did."""
        if not self.at_work:
            raise RuntimeError("there are units that need what no unit makes")
        finished = wait(self.at_work, return_when=FIRST_COMPLETED).done
        if any(map(_lost_its_worker, finished)):
            self._drop_pool()
            finished = set(self.at_work)
        for done in finished:
            try:
                failure = done.result()
            except BrokenProcessPool:
                failure = Failure(
                    "a worker process was killed; memory may have run out", traceback.format_exc()
                )
            yield *self.at_work.pop(done), failure

    def _drop_pool(self) -> None:
        """Lets go of a pool that has lost a worker: all that its workers were making has failed."""
        wait(self.at_work)
        _end_workers()
        self.pool = None

    def _workers(self) -> ProcessPoolExecutor:
        if self.pool is None:
            self.pool = ProcessPoolExecutor(
                self.size,
                # A forked copy of a process with threads and open databases is not safe to go on with.
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(self.worker.experiment.home, self.worker.experiment.settings),
            )
        return self.pool


def _lost_its_worker(done: "Future[Failure | None]") -> bool:
    return not done.cancelled() and isinstance(done.exception(), BrokenProcessPool)


def _end_workers() -> None:
    """Kills workers that the pool asked to end: Dagster drops a SIGTERM that meets its bookkeeping.

    Such a worker would wait for its next unit, and the pool for the worker, forever.
    """
    for worker in multiprocessing.active_children():
        worker.kill()


_this_worker: Worker


def _start_worker(home: Path, settings: Settings) -> None:
    global _this_worker  # noqa: PLW0603 - a pool's initializer has no other way to hand something on
    quiet_dagster()
    show_readings()
    # Dagster gives SIGTERM whatever SIGINT does: by default a traceback from every worker that is stopped.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _this_worker = Worker(Experiment(home, settings))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Last of all, and without taking the interpreter down: DuckDB complains of leaks where that happens with
    # torch or another thread about.
    Finalize(None, os._exit, args=(0,), exitpriority=-100)


def _make_in_worker(unit: Unit, tables: Sequence[str]) -> Failure | None:
    try:
        return _this_worker.make(unit, tables)
    except BaseException:  # noqa: BLE001 - during a run, Dagster turns signals into exceptions
        os._exit(1)


def _end_with_parent() -> None:
    """Ends this process soon after its parent, also when the parent was killed."""
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():
        time.sleep(0.5)
    os._exit(1)
