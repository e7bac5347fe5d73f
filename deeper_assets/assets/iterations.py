"""Iterations: contexts, sampled candidates, what they predict, and what that is worth.

Iteration 1 is by domain and update, because recipes that prompt alike share the base policy's candidates;
iteration 2 is by domain and recipe, because each recipe's Model 1 samples anew. A domain that trains nobody
has partitions without rows.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from dagster import (
    AssetExecutionContext,
    AssetIn,
    AssetOut,
    AssetsDefinition,
    Output,
    ResourceParam,
    asset,
    multi_asset,
)

from deeper_assets.assets.booking import booked
from deeper_assets.assets.stored import stored
from deeper_assets.method import candidates as method
from deeper_assets.method import rewards as scoring
from deeper_assets.method.contexts import (
    Contexts,
    initial_contexts,
    next_contexts,
    of_recipe,
    refined_personas,
)
from deeper_assets.method.errors import share_missing
from deeper_assets.method.protocols import Sampler
from deeper_assets.partitions import Partitions, columns_of
from deeper_assets.resources import Experiment


def contexts_1(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    rating_windows: pd.DataFrame,
    initial_personas: pd.DataFrame,
    initial_predictions: pd.DataFrame,
) -> Iterator[Output[pd.DataFrame]]:
    """Contexts (S0, O1) of a domain's training users, and what S0 predicts around them."""
    key = columns_of(context.partition_key)
    personas, predictions = (
        _training_rows(frame, experiment, key["domain"]) for frame in (initial_personas, initial_predictions)
    )
    domain = experiment.domain(key["domain"])
    with booked(context, experiment, "contexts_1") as chat:
        found = initial_contexts(rating_windows, personas, predictions, domain, chat, key["template"])
    yield from _contexts(found, 1)


def contexts_2(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    rating_windows: pd.DataFrame,
    contexts_1: pd.DataFrame,
    context_predictions_1: pd.DataFrame,
    base_policy: pd.DataFrame,
    model_1: pd.DataFrame,
) -> Iterator[Output[pd.DataFrame]]:
    """Contexts (S1, O2), where Model 1 wrote S1, beside those of iteration 1."""
    key = columns_of(context.partition_key)
    domain, template = experiment.domain(key["domain"]), experiment.recipes[key["recipe"]].template
    refined = method.sample_candidates(
        contexts_1,
        experiment.sampler(base_policy, model_1),
        experiment.refining_decoding,
        1,
        experiment.settings.seed,
        rating_windows,
        domain,
        experiment.settings.forbid_leaks,
    )
    personas = refined_personas(contexts_1, refined)
    with booked(context, experiment, "contexts_2") as chat:
        second = next_contexts(rating_windows, personas, domain, chat, template)
    yield from _contexts(of_recipe(key["recipe"], Contexts(contexts_1, context_predictions_1), second), 2)


def candidates_1(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    rating_windows: pd.DataFrame,
    contexts_1: pd.DataFrame,
    base_policy: pd.DataFrame,
) -> pd.DataFrame:
    """Refinements of every context, sampled from the base policy; equal texts once, with their number."""
    return _candidates(context, experiment, rating_windows, contexts_1, experiment.sampler(base_policy))


def candidates_2(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    rating_windows: pd.DataFrame,
    contexts_2: pd.DataFrame,
    base_policy: pd.DataFrame,
    model_1: pd.DataFrame,
) -> pd.DataFrame:
    """Refinements of every context, sampled from the recipe's Model 1; equal texts once, counted."""
    sampler = experiment.sampler(base_policy, model_1)
    return _candidates(context, experiment, rating_windows, contexts_2, sampler)


def candidate_predictions(
    context: AssetExecutionContext,
    experiment: ResourceParam[Experiment],
    rating_windows: pd.DataFrame,
    candidates: pd.DataFrame,
) -> pd.DataFrame:
    """What every usable candidate predicts for the previous, current and future window of its context."""
    domain = experiment.domain(columns_of(context.partition_key)["domain"])
    with booked(context, experiment) as chat:
        predictions = method.predict_candidates(candidates, rating_windows, domain, chat)
    context.add_output_metadata({"share unreadable": share_missing(predictions["predicted"])})
    return predictions


def rewards(
    context: AssetExecutionContext,
    rating_windows: pd.DataFrame,
    candidates: pd.DataFrame,
    context_predictions: pd.DataFrame,
    candidate_predictions: pd.DataFrame,
) -> pd.DataFrame:
    """By how much each candidate lowers the error on the previous, current and future window."""
    found = scoring.rewards(candidates, context_predictions, candidate_predictions, rating_windows)
    means = {f"mean {name}": float(found[name].mean()) for name in scoring.COMPONENTS if len(found)}
    context.add_output_metadata({**means, "share unknown": share_missing(found["reward_future"])})
    return found


def _training_rows(frame: pd.DataFrame, experiment: Experiment, domain: str) -> pd.DataFrame:
    """The rows of training users; none where the domain does not train."""
    return frame[(frame["split"] == "train") & (domain in experiment.training_domains)]


def _contexts(found: Contexts, iteration: int) -> Iterator[Output[pd.DataFrame]]:
    without = int(found.contexts["prompt"].isna().sum())
    metadata = {"contexts": len(found.contexts), "without a prompt": without}
    yield Output(found.contexts, f"contexts_{iteration}", metadata=metadata)
    yield Output(found.predictions, f"context_predictions_{iteration}")


def _candidates(
    context: AssetExecutionContext,
    experiment: Experiment,
    windows: pd.DataFrame,
    contexts: pd.DataFrame,
    sampler: Sampler,
) -> pd.DataFrame:
    settings = experiment.settings
    sampled = method.sample_candidates(
        contexts,
        sampler,
        experiment.candidate_decoding,
        settings.candidates,
        settings.seed,
        windows,
        experiment.domain(columns_of(context.partition_key)["domain"]),
        settings.forbid_leaks,
    )
    samples = max(int(sampled["copies"].sum()), 1)
    shares = {
        f"share that {does}": float((sampled[column] * sampled["copies"]).sum() / samples)
        for column, does in (("names_item", "names an item"), ("states_score", "states a score"))
    }
    reasons = {str(reason): int(count) for reason, count in sampled["unusable"].value_counts().items()}
    context.add_output_metadata(
        {
            "samples": int(sampled["copies"].sum()),
            "model": sampler.name,
            "engine": experiment.sampler_engine,
            "unusable": reasons,
            **shares,
        }
    )
    return sampled


def build(partitions: Partitions) -> list[AssetsDefinition]:
    """The assets of both iterations."""
    return [*_build(partitions, 1), *_build(partitions, 2)]


def _build(partitions: Partitions, i: int) -> list[AssetsDefinition]:
    group: dict[str, Any] = {"group_name": f"iteration_{i}", "code_version": "1"}
    cut = partitions.domain_updates if i == 1 else partitions.domain_recipes
    outs = {
        f"contexts_{i}": AssetOut(
            description="An old persona and what was observed since, as the policy's prompt.",
            **stored(f"contexts_{i}"),
            **group,
        ),
        f"context_predictions_{i}": AssetOut(
            description="What the old persona predicts for the windows of its rewards.",
            **stored(f"context_predictions_{i}"),
            **group,
        ),
    }
    first = {
        name: AssetIn(name, partition_mapping=partitions.updates_of_recipes)
        for name in ("contexts_1", "context_predictions_1")
    }
    own = {
        name: AssetIn(f"{name}_{i}")
        for name in ("candidates", "candidate_predictions", "context_predictions")
    }
    return [
        multi_asset(name=f"contexts_{i}", outs=outs, partitions_def=cut, ins={} if i == 1 else first)(
            contexts_1 if i == 1 else contexts_2
        ),
        asset(partitions_def=cut, **stored(f"candidates_{i}"), **group)(
            candidates_1 if i == 1 else candidates_2
        ),
        asset(
            name=f"candidate_predictions_{i}",
            ins={"candidates": own["candidates"]},
            partitions_def=cut,
            **stored(f"candidate_predictions_{i}"),
            **group,
        )(candidate_predictions),
        asset(name=f"rewards_{i}", ins=own, partitions_def=cut, **stored(f"rewards_{i}"), **group)(rewards),
    ]
