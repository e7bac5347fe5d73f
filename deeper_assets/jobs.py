"""Jobs, and what starts them.

Jobs are cut where a model will stand: one partitioned job across a model would train it with domains missing.
"""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256

from dagster import (
    AssetSelection,
    AutomationCondition,
    AutomationConditionSensorDefinition,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    define_asset_job,
    schedule,
    sensor,
)

from deeper_assets.method.faults import DeeperError
from deeper_assets.partitions import Partitions
from deeper_assets.resources import Experiment

PERSONAS = define_asset_job(
    "personas",
    AssetSelection.groups("histories", "personas"),
    description="From source files to initial personas and their predictions, for one domain.",
)
EVALUATION = define_asset_job(
    "evaluation",
    AssetSelection.assets("persona_rounds", "round_predictions", "round_errors"),
    description="Four rounds of update and prediction and their errors, for one domain and method.",
)
TABLES = define_asset_job(
    "tables",
    AssetSelection.assets("floors_table", "mae_table"),
    description="The paper's tables with floors, from whatever has been evaluated.",
)
JOBS = (PERSONAS, EVALUATION, TABLES)

# Unlike `eager()`, this does not wait until every domain and method has been evaluated once.
AFTER_EVALUATION = (
    AutomationCondition.any_deps_updated().since_last_handled()
    & ~AutomationCondition.any_deps_in_progress()
    & ~AutomationCondition.in_progress()
)
"""When the tables are due again: something they are made from is new, and nothing of it is being made."""


def build_schedule(experiment: Experiment, partitions: Partitions) -> ScheduleDefinition:
    """The weekly re-evaluation of every domain by every method; off until it is switched on."""

    @schedule(job=EVALUATION, cron_schedule=experiment.settings.re_evaluation_cron)
    def re_evaluation(context: ScheduleEvaluationContext) -> Iterator[RunRequest]:
        """Plays the rounds of every domain and method again; switch on refresh_tables to follow it."""
        tick = context.scheduled_execution_time.isoformat()
        for key in partitions.domain_methods.get_partition_keys():
            yield RunRequest(partition_key=key, run_key=f"{tick} {key}")

    return re_evaluation


def build_sensors(experiment: Experiment) -> list[SensorDefinition]:
    """What notices that something is due; all of it off until it is switched on."""

    @sensor(job=PERSONAS, minimum_interval_seconds=60)
    def source_files(context: SensorEvaluationContext) -> SensorResult:
        """Asks for exactly the domains whose source files are new or changed."""
        before = json.loads(context.cursor) if context.cursor else {}
        now = {name: listing for name in experiment.domains if (listing := file_listing(experiment, name))}
        touched = [
            name
            for name, listing in now.items()
            if listing != before.get(name) and (name in before or not is_stored(experiment, name))
        ]
        requests = [RunRequest(partition_key=name, run_key=f"{name}:{now[name]}") for name in touched]
        return SensorResult(run_requests=requests, cursor=json.dumps(now))

    refresh = AutomationConditionSensorDefinition(
        "refresh_tables",
        target=AssetSelection.assets("floors_table", "mae_table"),
        description="Makes the tables again after an evaluation.",
    )
    return [source_files, refresh]


def file_listing(experiment: Experiment, domain: str) -> str:
    """A short hash of a domain's source files, their sizes and times of change; empty where it has no files.

    A sensor looks every minute, so it does not read the files; the fingerprint of raw_ratings does.
    """
    try:
        files = experiment.source(domain).files()
    except DeeperError:  # the folder is not there (yet): nothing to ask for
        return ""
    listing = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    return sha256(json.dumps(listing).encode()).hexdigest()[:16] if listing else ""


def is_stored(experiment: Experiment, domain: str) -> bool:
    """Whether raw_ratings already holds the domain as its source is now."""
    stored: Mapping[str, object] = {}
    for version in experiment.warehouse.current("raw_ratings"):
        if version.partition == {"domain": domain}:
            stored = version.recipe.settings
    return stored == experiment.describe("raw_ratings", {"domain": domain})
