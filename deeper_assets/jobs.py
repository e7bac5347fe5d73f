"""Jobs, and what starts them.

Jobs are cut where a model will stand: one partitioned job across a model would train it with domains missing.
"""

import json
from collections.abc import Iterator
from hashlib import sha256

from dagster import (
    AssetSelection,
    AutomationConditionSensorDefinition,
    MultiPartitionKey,
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
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from deeper_assets.graph import Graph
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.resources import Experiment


def _job(name: str, *groups: str, description: str) -> UnresolvedAssetJobDefinition:
    return define_asset_job(name, AssetSelection.groups(*groups), description=description)


EVALUATION = _job(
    "evaluation",
    "evaluation",
    description="Four rounds of update and prediction and their errors, for one domain and method.",
)
PERSONAS = _job(
    "personas",
    *("histories", "personas"),
    description="From source files to initial personas and their predictions, for one domain.",
)
TABLES_JOB = _job(
    "tables",
    "tables",
    description="The paper's tables with floors and intervals, from whatever has been evaluated; costs.",
)
# A job and an asset cannot share a name.
JOBS = (
    PERSONAS,
    _job("pretraining", "base", description="The policy before any training."),
    _job(
        "iteration_1",
        "iteration_1",
        description="From initial personas to rewarded candidates of the base policy, for one domain.",
    ),
    _job(
        "training_1",
        "model_1",
        description="Preferences of all training domains, and Model 1, for one recipe.",
    ),
    _job(
        "iteration_2",
        "iteration_2",
        description="From Model 1's personas to rewarded candidates of Model 1, for one domain and recipe.",
    ),
    _job(
        "training_2",
        "model_2",
        description="Preferences of all training domains and a replay, and Model 2, for one recipe.",
    ),
    _job("methods", "policies", description="Which policy writes the personas of a method."),
    EVALUATION,
    TABLES_JOB,
)
"""In the order in which a run of everything takes them."""


def build_schedule(experiment: Experiment) -> ScheduleDefinition:
    """The weekly re-evaluation by every method at hand; off until it is switched on."""

    @schedule(job=EVALUATION, cron_schedule=experiment.settings.re_evaluation_cron)
    def re_evaluation(context: ScheduleEvaluationContext) -> Iterator[RunRequest]:
        """Plays the rounds of every evaluated domain and method again; refresh_tables follows it if it is on.

        Methods of recipes that have not been trained yet are left out.
        """
        tick = context.scheduled_execution_time.isoformat()
        ready = {version.partition["method"] for version in experiment.warehouse.current("policies")}
        for domain in experiment.evaluated:
            for method in [method for method in experiment.methods if method in ready]:
                key = MultiPartitionKey({"domain": domain, "method": method})
                yield RunRequest(partition_key=key, run_key=f"{tick} {key}")

    return re_evaluation


def build_sensors(experiment: Experiment, graph: Graph) -> list[SensorDefinition]:
    """What notices that something is due; all of it off until it is switched on."""

    @sensor(job=PERSONAS, minimum_interval_seconds=60)
    def source_files(context: SensorEvaluationContext) -> SensorResult:
        """Asks for exactly the domains whose source files are new or changed."""
        before = json.loads(context.cursor) if context.cursor else {}
        listings = {name: file_listing(experiment, name) for name in experiment.domains_in_force}
        now = {name: listing for name, listing in listings.items() if listing}
        touched = [
            name
            for name, listing in now.items()
            if listing != before.get(name)
            and (name in before or not graph.is_stored("raw_ratings", {"domain": name}))
        ]
        requests = [RunRequest(partition_key=name, run_key=f"{name}:{now[name]}") for name in touched]
        return SensorResult(run_requests=requests, cursor=json.dumps(now))

    refresh = AutomationConditionSensorDefinition(
        "refresh_tables",
        target=AssetSelection.assets("floors_table", "mae_table", "comparison_table"),
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
