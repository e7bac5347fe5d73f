"""Jobs, cut where a model will stand: one partitioned job across a model would train with domains missing."""

from dagster import AssetSelection, define_asset_job
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition


def _job(name: str, *groups: str, description: str) -> UnresolvedAssetJobDefinition:
    return define_asset_job(name, AssetSelection.groups(*groups), description=description)


EVALUATION = _job(
    "evaluation",
    "evaluation",
    description="Four rounds of update and prediction and their errors, for one domain and method.",
)
CONTROLS_JOB = _job(
    "controls",
    "controls",
    description="What is predicted with something else for the persona, for one domain and control.",
)
TRUTH_JOB = _job(
    "ceilings",
    "truth",
    description="What generated users were generated with, and how well that predicts, for one domain.",
)
PERSONAS = _job(
    "personas",
    *("histories", "personas"),
    description="From source files to initial personas and their predictions, for one domain.",
)
TABLES_JOB = _job(
    "tables",
    "tables",
    description="The paper's tables with controls and floors, from whatever has been evaluated; costs.",
)
REMEMBERING = _job(
    "remembering",
    *("events", "memories"),
    description="What people did, session by session, and what they were after; for one domain.",
)
INDUCING = _job(
    "inducing",
    "persona_sets",
    description="Several personas a person, from memories; for one domain and inducer.",
)
SET_JOBS = (
    _job("set_pretraining", "set_base", description="The policy of sets before any training."),
    _job(
        "sampling_sets",
        "set_sampling",
        description="Sets of personas that the policy writes, and what they are worth; for one domain.",
    ),
    _job(
        "training_sets",
        "set_training",
        description="Preferences between sets of all training domains, and a model; for one recipe of sets.",
    ),
    _job("inducers", "set_policies", description="Which policy writes the sets of an inducer."),
)
RANKING = _job(
    "ranking",
    "next_items",
    description="How personas and what stands beside them rank what people do next; for one domain.",
)
PLANTING = _job(
    "planting",
    "planted_people",
    description="What generated people are, which events show it, and how well it ranks; for one domain.",
)
SCORING = _job(
    "scoring",
    "planted_scores",
    description="How well sets of personas agree with planted ones; for one domain and inducer.",
)
INDUCTION_JOB = _job(
    "induction",
    "induction",
    description="What inducers find, how well it agrees with what was planted, and how well it ranks.",
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
    CONTROLS_JOB,
    TRUTH_JOB,
    TABLES_JOB,
    REMEMBERING,
    *SET_JOBS,
    INDUCING,
    RANKING,
    PLANTING,
    SCORING,
    INDUCTION_JOB,
)
"""In the order in which a run of everything takes them."""
