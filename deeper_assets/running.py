"""`deeper run`: the whole graph in the home folder's own Dagster instance, only what is missing or stale.

Every unit of work is one Dagster run of one job for one partition, so `dagster dev` on the same home shows
what was done, and a run killed at any moment leaves whole partitions and nothing else. Worker processes take
the units whose inputs are there, in the order of the graph: while one process trains a model, the others go
on with the units that do not need it.
"""

import traceback
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from dagster import DagsterInstance
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus,
)

from deeper_assets.crew import Crew, Failure, Worker
from deeper_assets.graph import Graph
from deeper_assets.instance import (
    alone_in,
    bury_the_dead,
    corrections,
    latest_checks,
    prune,
)
from deeper_assets.layers import record_settings
from deeper_assets.method.exceptions import DeeperError, one_line
from deeper_assets.planning import Edges, Planner, Unit, read_first
from deeper_assets.privacy import close_to_others
from deeper_assets.resources import Experiment
from deeper_assets.sources.folders import leave, sweep
from deeper_assets.ui import databases_open


@dataclass
class Outcome:
    """What became of a run of the whole graph.

    Attributes:
        made: units that were made, with the tables each run materialized.
        up_to_date: units that had nothing to do.
        failed: units that could not be made.
        skipped: units that would have needed a failed one.
        warnings: what checks warn of in the units that were made, a line a check.
    """

    made: list[tuple[Unit, Sequence[str]]] = field(default_factory=list)
    up_to_date: list[Unit] = field(default_factory=list)
    failed: list[tuple[Unit, Failure]] = field(default_factory=list)
    skipped: list[Unit] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Units there is nothing left to do for."""
        return len(self.made) + len(self.up_to_date) + len(self.failed) + len(self.skipped)

    @property
    def settled(self) -> set[Unit]:
        """Units whose tables are there for other units to need."""
        return {unit for unit, _ in self.made} | set(self.up_to_date)

    @property
    def broken(self) -> set[Unit]:
        """Units whose tables will not be there."""
        return {unit for unit, _ in self.failed} | set(self.skipped)


Report = Callable[[str, int, int], None]
"""Told about progress: what is at work, how many units are done, how many there are."""


def run_everything(
    experiment: Experiment,
    report: Report,
    flags: Mapping[str, Any] | None = None,
    refresh: Collection[str] = (),
) -> Outcome:
    """Brings every table up to date of the domains that are evaluated or train, and the tables over them.

    A domain that fails leaves the other domains untouched.

    Args:
        experiment: what is made, with the flags.
        report: told about progress.
        flags: recorded in the home, once this process holds it: a run that is refused changes nothing.
        refresh: domains whose sources are read again, like those of domains with `refresh: always`; what
            follows is made anew where they are others.

    Raises:
        DeeperError: a domain is not configured, or has no ratings for the branch refinement; or another
            `deeper run` is at work in the same home.
    """
    always = [name for name, given in experiment.settings.domains.items() if given.refresh == "always"]
    refuse_out_of_force(experiment, refresh)
    experiment.refuse_logs()
    worker = Worker(experiment)
    planner = Planner(Graph.of(experiment), worker.definitions)
    outcome = Outcome()
    close_to_others(experiment.home)
    with alone_in(experiment.home), Crew(worker) as crew:
        record_settings(experiment.home, flags or {})
        bury_the_dead(worker.instance)  # which makes the databases that are kept open
        sweep(experiment.home / "scratch")
        with databases_open(experiment.home):
            _make_all(crew, planner, {*refresh, *always}, outcome, report)
            for event in corrections(worker.instance, planner, sources=[]):
                worker.instance.report_runless_asset_event(event)
            prune(worker.instance, planner)
            outcome.warnings = worker.warnings(unit for unit, _ in outcome.made)
    leave(experiment.home / "scratch")
    return outcome


def _make_all(crew: Crew, planner: Planner, anew: Set[str], outcome: Outcome, report: Report) -> None:
    """Has every unit made that is to be made, each after those it needs; see `_due` for `anew`."""
    edges = planner.units()
    units = list(edges)
    job = ""
    waiting = units
    due: dict[Unit, list[str]] = {}
    read: dict[Unit, list[str]] = {}
    while waiting or due or crew.at_work:
        ready, waiting = _ready(waiting, edges, outcome)
        if ready:
            due |= _due(crew.worker, planner, ready, outcome, anew)
        elif due and crew.has_room:
            unit = min(due, key=units.index)
            if unit.job != job:
                job = unit.job
                report(job, outcome.done, len(units))
            crew.start(unit, due.pop(unit), alone=not due)
        else:
            for unit, tables, failure in crew.finished():
                if failure is not None:
                    outcome.failed.append((unit, failure))
                elif rest := _rest(crew.worker, planner, unit, tables):
                    due[unit], read[unit] = rest, tables
                else:
                    outcome.made.append((unit, [*read.pop(unit, []), *tables]))
                report(str(unit), outcome.done, len(units))


def refuse_out_of_force(experiment: Experiment, domains: Collection[str]) -> None:
    """Only domains of which a run makes something can be read again.

    Raises:
        DeeperError: a domain is not configured, or is neither evaluated nor trains.
    """
    for name in domains:
        if experiment.domain(name).name not in experiment.domains_in_force:
            raise DeeperError(
                f"domain {name!r} is neither evaluated nor does it train, so its ratings are not read; "
                f"those that are: {', '.join(experiment.domains_in_force)}"
            )


def _ready(
    waiting: Sequence[Unit], edges: Mapping[Unit, Edges], outcome: Outcome
) -> tuple[list[Unit], list[Unit]]:
    """Units that nothing stands before any more, and those to wait on; hopeless ones are skipped."""
    settled, broken = outcome.settled, outcome.broken
    ready, others = [], []
    for unit in waiting:
        before = edges[unit]
        if before.needs & broken:
            outcome.skipped.append(unit)
            broken.add(unit)
        elif before.needs <= settled and before.follows <= settled | broken:
            ready.append(unit)
        else:
            others.append(unit)
    return ready, others


def _due(
    worker: Worker, planner: Planner, units: Sequence[Unit], outcome: Outcome, anew: Set[str]
) -> dict[Unit, list[str]]:
    """The units that are to be made, with their stale tables. A unit that cannot be planned has failed.

    Of the domains in `anew`, first the source alone is read: what follows is stale only if that is another.
    """
    due = {}
    stored = planner.stored()
    for unit in units:
        outermost = _read_from_outside(planner, unit)
        if (
            outermost
            and str(unit.partition_key) in anew
            and unit.partition_key in planner.made(outermost[0], stored)
        ):
            due[unit] = outermost
            continue
        try:
            unchecked = _unchecked(worker.instance, planner, unit)
            stale = planner.stale(unit.tables, unit.partition_key, stored, unchecked)
        except DeeperError as error:
            outcome.failed.append((unit, Failure(one_line(error), traceback.format_exc())))
            worker.report_unplanned(unit)
            continue
        if stale:
            due[unit] = stale
        else:
            outcome.up_to_date.append(unit)
    return due


def _rest(worker: Worker, planner: Planner, unit: Unit, made: Sequence[str]) -> list[str]:
    """After a unit's source alone has been read again: those of its other tables that are stale now."""
    if set(made) != set(_read_from_outside(planner, unit)):
        return []
    others = [table for table in unit.tables if table not in made]
    unchecked = _unchecked(worker.instance, planner, unit)
    return planner.stale(others, unit.partition_key, planner.stored(), unchecked)


def _read_from_outside(planner: Planner, unit: Unit) -> list[str]:
    """Those of a unit's tables that are read from the domain's source; of most units, none."""
    domain = planner.columns(unit.tables[0], unit.partition_key).get("domain")
    table = read_first(planner.graph.experiment, domain) if domain else None
    return list(planner.graph.tables[table].tables) if table and table in unit.tables else []


def _unchecked(instance: DagsterInstance, planner: Planner, unit: Unit) -> set[str]:
    """Tables of a unit with a blocking check that did not pass last time, or was never reached.

    What was made from them may not be gone on with: they are made, and checked, again.
    """
    latest = latest_checks(instance, planner.assets, unit, blocking_only=True)
    passed = AssetCheckExecutionRecordStatus.SUCCEEDED
    return {key.asset_key.to_user_string() for key, record in latest.items() if record.status != passed}
