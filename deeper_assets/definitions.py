"""The code location: every asset, check, job, schedule and sensor, listed by hand.

Importing this module costs Dagster alone. pandas, DuckDB and the settings are read when the code location is
loaded, so that nothing depends on the environment at import.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from dagster import Definitions, PipesSubprocessClient, definitions
from dagster_shared.utils.warnings import PreviewWarning

if TYPE_CHECKING:
    from deeper_assets.resources import Experiment


@definitions
def defs() -> Definitions:
    """What `dagster dev` and the jobs it starts work with: the experiment that the environment names."""
    from deeper_assets.resources import Experiment
    from deeper_assets.settings import home_folder, load_settings

    home: Path = home_folder()
    return build_definitions(Experiment(home, load_settings(home)))


def build_definitions(experiment: "Experiment") -> Definitions:
    """The graph of one experiment; its domains decide the partitions."""
    # Checks by partition are new in Dagster, and said to be so once for every check.
    warnings.filterwarnings("ignore", category=PreviewWarning)

    from deeper_assets import jobs
    from deeper_assets.assets import evaluation, histories, iterations, models, personas
    from deeper_assets.checks import evaluation as evaluation_checks
    from deeper_assets.checks import histories as histories_checks
    from deeper_assets.checks import iterations as iterations_checks
    from deeper_assets.checks import models as models_checks
    from deeper_assets.checks import personas as personas_checks
    from deeper_assets.method.updates import FROZEN_POLICY, PROMPT_METHODS
    from deeper_assets.partitions import partitions_of
    from deeper_assets.store.io_manager import WarehouseIOManager

    recipes = {name: recipe.template for name, recipe in experiment.recipes.items()}
    untrained = dict.fromkeys([FROZEN_POLICY, *PROMPT_METHODS])
    partitions = partitions_of(experiment.domains, recipes, {**experiment.policies, **untrained})
    return Definitions(
        assets=[
            *histories.build(partitions),
            *personas.build(partitions),
            *iterations.build(partitions),
            *models.build(partitions),
            *evaluation.build(partitions),
        ],
        asset_checks=[
            *histories_checks.build(partitions),
            *personas_checks.build(partitions),
            *iterations_checks.build(partitions),
            *models_checks.build(partitions),
            *evaluation_checks.build(partitions),
        ],
        jobs=jobs.JOBS,
        schedules=[jobs.build_schedule(experiment, partitions)],
        sensors=jobs.build_sensors(experiment),
        resources={
            "experiment": experiment,
            "pipes": PipesSubprocessClient(),
            "warehouse": WarehouseIOManager(experiment.warehouse, experiment.describe),
        },
    )
