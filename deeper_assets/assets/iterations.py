"""Iterations: contexts, sampled candidates, what they predict, and what that is worth.

Iteration 1 is by domain, because recipes that refine by one template share the base policy's candidates; a
row says its template. Iteration 2 is by domain and recipe, because each recipe's Model 1 samples anew. Of
domains there are those that train.
"""

from typing import Any

import pandas as pd
from dagster import Output

from deeper_assets.assets.personas import with_placings
from deeper_assets.declaring import TableAsset, table
from deeper_assets.method import candidates as sampling
from deeper_assets.method import rewards as scoring
from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.candidates import CandidateDraw
from deeper_assets.method.contexts import (
    Contexts,
    initial_contexts,
    next_contexts,
    of_recipe,
    of_template,
    refined_personas,
)
from deeper_assets.method.domains import Domain
from deeper_assets.method.errors import share_missing
from deeper_assets.method.parsing import RATINGS_VERSION
from deeper_assets.method.prompts import Prompts
from deeper_assets.partitions import ITERATIONS
from deeper_assets.reports.figures import reward_figures
from deeper_assets.resources import Samplers

CONTEXT_TABLES = {
    "contexts": "An old persona and what was observed since, as the policy's prompt.",
    "context_predictions": "What the old persona predicts for the windows of its rewards.",
}


@table("iteration_1", training=True)
def training_windows(rating_windows: pd.DataFrame) -> pd.DataFrame:
    """Windows of the users who train: another number of evaluation users leaves them as they are."""
    return rating_windows[rating_windows["split"] == "train"]


@table(
    "iteration_1",
    tables={f"{name}_1": meaning for name, meaning in CONTEXT_TABLES.items()},
    templates=lambda values, partition: values.templates(partition),
    training=True,
    code_version=RATINGS_VERSION,
)
def contexts_1(
    training_windows: pd.DataFrame,
    initial_personas: pd.DataFrame,
    initial_predictions: pd.DataFrame,
    domain: Domain,
    prompts: Prompts,
    templates: tuple[str, ...],
) -> list[Output[pd.DataFrame]]:
    """Contexts (S0, O1) of a domain's training users, and what S0 predicts around them."""
    return _outputs(
        initial_contexts(training_windows, initial_personas, initial_predictions, domain, prompts, templates)
    )


@table(
    "iteration_2",
    tables={f"{name}_2": meaning for name, meaning in CONTEXT_TABLES.items()},
    templates=lambda values, partition: [values.template(partition), "prediction"],
    training=True,
    code_version=RATINGS_VERSION,
)
def contexts_2(
    training_windows: pd.DataFrame,
    contexts_1: pd.DataFrame,
    context_predictions_1: pd.DataFrame,
    base_policy: pd.DataFrame,
    model_1: pd.DataFrame,
    domain: Domain,
    chat: ChatSetup,
    recipe_name: str,
    template: str,
    refining_draw: CandidateDraw,
    samplers: Samplers,
) -> list[Output[pd.DataFrame]]:
    """Contexts (S1, O2), where Model 1 wrote S1, beside those of iteration 1."""
    first = Contexts(of_template(contexts_1, template), of_template(context_predictions_1, template))
    refined = sampling.sample_candidates(
        first.contexts, samplers.sampler(base_policy, model_1), refining_draw, training_windows, domain
    )
    personas = refined_personas(first.contexts, refined)
    second = next_contexts(training_windows, personas, domain, chat, template)
    return _outputs(of_recipe(recipe_name, first, second))


@table("iteration_1", training=True)
def candidates_1(
    training_windows: pd.DataFrame,
    contexts_1: pd.DataFrame,
    base_policy: pd.DataFrame,
    domain: Domain,
    candidate_draw: CandidateDraw,
    samplers: Samplers,
) -> Output[pd.DataFrame]:
    """Refinements of every context, sampled from the base policy; equal texts once, with their number."""
    sampler = samplers.sampler(base_policy)
    sampled = sampling.sample_candidates(contexts_1, sampler, candidate_draw, training_windows, domain)
    return Output(sampled, metadata={"model": sampler.name, "engine": samplers.engine, **_shares(sampled)})


@table("iteration_2", training=True)
def candidates_2(
    training_windows: pd.DataFrame,
    contexts_2: pd.DataFrame,
    base_policy: pd.DataFrame,
    model_1: pd.DataFrame,
    domain: Domain,
    candidate_draw: CandidateDraw,
    samplers: Samplers,
) -> Output[pd.DataFrame]:
    """Refinements of every context, sampled from the recipe's Model 1; equal texts once, counted."""
    sampler = samplers.sampler(base_policy, model_1)
    sampled = sampling.sample_candidates(contexts_2, sampler, candidate_draw, training_windows, domain)
    return Output(sampled, metadata={"model": sampler.name, "engine": samplers.engine, **_shares(sampled)})


def candidate_predictions(
    training_windows: pd.DataFrame, candidates: pd.DataFrame, domain: Domain, chat: ChatSetup
) -> Output[pd.DataFrame]:
    """What every usable candidate predicts for the previous, current and future window of its context."""
    return with_placings(sampling.predict_candidates(candidates, training_windows, domain, chat))


def rewards(
    training_windows: pd.DataFrame,
    candidates: pd.DataFrame,
    context_predictions: pd.DataFrame,
    candidate_predictions: pd.DataFrame,
) -> Output[pd.DataFrame]:
    """By how much each candidate lowers the error on the previous, current and future window."""
    scored = scoring.rewards(candidates, context_predictions, candidate_predictions, training_windows)
    unknown = share_missing(scored["reward_future"])
    return Output(scored, metadata={**reward_figures(scored), "share unknown": unknown})


def _of_iteration(number: int) -> list[TableAsset]:
    """The assets that are the same in both iterations."""
    group, own = f"iteration_{number}", ("candidates", "context_predictions", "candidate_predictions")
    reads = {name: f"{name}_{number}" for name in own}
    return [
        table(
            group,
            name=f"candidate_predictions_{number}",
            reads=reads,
            templates=["prediction"],
            training=True,
            code_version=RATINGS_VERSION,
        )(candidate_predictions),
        table(group, name=f"rewards_{number}", reads=reads, training=True)(rewards),
    ]


SCORING = [asset for number in ITERATIONS for asset in _of_iteration(number)]


def _outputs(made: Contexts) -> list[Output[pd.DataFrame]]:
    without = made.contexts.loc[made.contexts["prompt"].isna(), "note"].value_counts()
    metadata: dict[str, Any] = {
        "contexts": len(made.contexts),
        "without a prompt": int(without.sum()),
        "reasons": {str(reason): int(count) for reason, count in without.items()},
    }
    return [Output(made.contexts, metadata=metadata), with_placings(made.predictions)]


def _shares(sampled: pd.DataFrame) -> dict[str, Any]:
    samples = int(sampled["copies"].sum())
    shares = {
        f"share that {does}": float((sampled[column] * sampled["copies"]).sum() / max(samples, 1))
        for column, does in (("names_item", "names an item"), ("states_score", "states a score"))
    }
    reasons = {str(reason): int(count) for reason, count in sampled["unusable"].value_counts().items()}
    return {"samples": samples, "unusable": reasons, **shares}
