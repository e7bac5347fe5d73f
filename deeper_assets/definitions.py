"""The code location: every asset, check, job, schedule and sensor, listed by hand.

Importing this module costs Dagster alone. pandas, DuckDB and the settings are read when the code location is
loaded, so that nothing depends on the environment at import.
"""

import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dagster import (
    Definitions,
    ExecutorDefinition,
    definitions,
    in_process_executor,
    multiprocess_executor,
)
from dagster_shared.utils.warnings import PreviewWarning

if TYPE_CHECKING:
    from deeper_assets.resources import Experiment


@definitions
def defs() -> Definitions:
    """What `dagster dev` and the jobs it starts work with: the experiment that the environment names."""
    from deeper_assets.layers import home_folder, load_settings
    from deeper_assets.privacy import keep_private
    from deeper_assets.resources import Experiment

    home: Path = home_folder()
    settings = load_settings(home)
    keep_private(home)  # this process starts those of runs
    executor = in_process_executor if settings.executor == "in_process" else multiprocess_executor
    return build_definitions(Experiment(home, settings), executor)


def build_definitions(
    experiment: "Experiment", executor: ExecutorDefinition = in_process_executor
) -> Definitions:
    """The graph of one experiment; its settings decide the partitions.

    Args:
        experiment: whose graph.
        executor: of the runs that the UI starts; see `Settings.executor`.
    """
    # Checks by partition are new in Dagster, and said to be so once for every check.
    warnings.filterwarnings("ignore", category=PreviewWarning)

    from deeper_assets import automation
    from deeper_assets.graph import Graph
    from deeper_assets.jobs import JOBS
    from deeper_assets.planning import Planner
    from deeper_assets.resources import Experiment
    from deeper_assets.store.io_manager import WarehouseIOManager

    graph = Graph.of(experiment)
    assets = graph.assets()
    jobs = [job for job in JOBS if job.selection.resolve(assets)]
    # Dagster gives a tick of a sensor or schedule a minute. It waits for no lock that long, and asks
    # no query.
    hurried = experiment.settings.model_copy(
        update={"lock_timeout": min(20, experiment.settings.lock_timeout)}
    )
    waits_less = Experiment(experiment.home, hurried, asks=False)
    planner = cache(lambda: Planner(Graph.of(waits_less), whole))
    whole = Definitions(
        assets=assets,
        asset_checks=graph.checks(),
        jobs=[*jobs, *automation.build_jobs(experiment, planner)],
        schedules=automation.build_schedules(waits_less, planner),
        sensors=automation.build_sensors(waits_less, planner),
        executor=executor,
        resources={"warehouse": WarehouseIOManager(experiment.warehouse, graph.made_from, graph.told)},
    )
    return whole
