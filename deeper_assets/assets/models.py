"""Models: the base policy, preferences drawn from rewards, and the adapters trained on them."""

from collections.abc import Mapping

import pandas as pd
from dagster import MetadataValue, Output

from deeper_assets.declaring import In, table
from deeper_assets.engines.training.hardware import Hardware
from deeper_assets.engines.training.job import CODE_VERSION
from deeper_assets.method.contexts import of_domains, of_template
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.frames import stacked
from deeper_assets.method.pairs import (
    CONTEXT,
    ValidationSplit,
    choose_pairs,
    group_candidates,
    mark_validation,
    replayed,
    score_candidates,
    training_examples,
)
from deeper_assets.method.recipes import Recipe, Training
from deeper_assets.method.updates import PROMPT_METHODS
from deeper_assets.partitions import every_partition
from deeper_assets.reports.figures import ending_figures, group_figures, pair_figures, training_figures
from deeper_assets.reports.plots import as_markdown, loss_plot
from deeper_assets.resources import Objective, Trained, Trainer, base_policy_rows
from deeper_assets.store.adapters import identity
from deeper_assets.values import BasePolicy, TrainedModel

PREFERENCE_TABLES = {
    "preference_pairs": "Chosen and rejected personas of one context, of all training domains.",
    "preference_groups": "All personas of a context with their rewards, for losses over groups.",
}


@table("base", training=True)
def base_policy(policy: BasePolicy) -> Output[pd.DataFrame]:
    """The policy before any training: the tiny one that is shipped, or a model of one's own."""
    rows = base_policy_rows(policy.name)
    return Output(rows, metadata={"bytes": int(rows["size"].sum()), "identity": identity(rows)})


@table(
    "model_1",
    tables={f"{name}_1": meaning for name, meaning in PREFERENCE_TABLES.items()},
    reads={name: In(f"{name}_1", every_partition) for name in ("contexts", "candidates", "rewards")},
    training=True,
)
def preferences_1(
    contexts: pd.DataFrame,
    candidates: pd.DataFrame,
    rewards: pd.DataFrame,
    recipe: Recipe,
    recipe_name: str,
    training_domains: tuple[str, ...],
    validation: ValidationSplit,
) -> list[Output[pd.DataFrame]]:
    """Pairs and groups of iteration 1, of all training domains together."""
    contexts, candidates, rewards = (
        of_template(rows, recipe.template) for rows in (contexts, candidates, rewards)
    )
    scored = score_candidates(candidates, of_domains(rewards, training_domains), contexts, recipe)
    pairs = choose_pairs(scored, recipe, recipe_name, 1)
    groups = group_candidates(scored, recipe_name, 1)
    return _preferences(recipe, pairs, groups, validation)


@table(
    "model_2",
    tables={f"{name}_2": meaning for name, meaning in PREFERENCE_TABLES.items()},
    reads={name: f"{name}_2" for name in ("contexts", "candidates", "rewards")},
    training=True,
)
def preferences_2(
    contexts: pd.DataFrame,
    candidates: pd.DataFrame,
    rewards: pd.DataFrame,
    preference_pairs_1: pd.DataFrame,
    preference_groups_1: pd.DataFrame,
    recipe: Recipe,
    recipe_name: str,
    training_domains: tuple[str, ...],
    validation: ValidationSplit,
) -> list[Output[pd.DataFrame]]:
    """Pairs and groups of iteration 2, and what is replayed of iteration 1."""
    scored = score_candidates(candidates, of_domains(rewards, training_domains), contexts, recipe)
    pairs = choose_pairs(scored, recipe, recipe_name, 2)
    groups = group_candidates(scored, recipe_name, 2)
    pairs_again = replayed(preference_pairs_1, recipe, len(pairs))
    groups_again = replayed(preference_groups_1, recipe, len(groups[CONTEXT].drop_duplicates()))
    pairs = stacked([pairs, pairs_again[pairs.columns]])
    groups = stacked([groups, groups_again[groups.columns]])
    return _preferences(recipe, pairs, groups, validation)


@table("model_1", training=True, code_version=CODE_VERSION)
def model_1(
    base_policy: pd.DataFrame,
    preference_pairs_1: pd.DataFrame,
    preference_groups_1: pd.DataFrame,
    recipe_name: str,
    loss: str,
    training: Training,
    seed: int,
    hardware: Hardware,
    trainer: Trainer,
) -> Output[pd.DataFrame]:
    """Model 1: the adapter that iteration 1's preferences train on the base policy."""
    examples = preference_pairs_1 if loss == "pairwise" else preference_groups_1
    objective = Objective(loss, "start", training, seed, hardware)
    trained = trainer.train(f"{recipe_name}_1", base_policy, None, training_examples(examples), objective)
    return trained_output(trained, {"recipe": recipe_name}, "start")


@table("model_2", training=True, code_version=CODE_VERSION)
def model_2(
    base_policy: pd.DataFrame,
    model_1: pd.DataFrame,
    preference_pairs_2: pd.DataFrame,
    preference_groups_2: pd.DataFrame,
    recipe_name: str,
    loss: str,
    reference: str,
    training: Training,
    seed: int,
    hardware: Hardware,
    trainer: Trainer,
) -> Output[pd.DataFrame]:
    """Model 2: Model 1's adapter, trained on with iteration 2's preferences."""
    examples = preference_pairs_2 if loss == "pairwise" else preference_groups_2
    objective = Objective(loss, reference, training, seed, hardware)
    trained = trainer.train(f"{recipe_name}_2", base_policy, model_1, training_examples(examples), objective)
    held_to = f"model_1 {identity(model_1)}" if reference == "start" else f"base {identity(base_policy)}"
    return trained_output(trained, {"recipe": recipe_name}, f"{reference} ({held_to})")


@table(
    "policies",
    reads={
        "base_policy": In("base_policy", optional=True),
        "model_1": In("model_1", lambda partitions: partitions.models[1]),
        "model_2": In("model_2", lambda partitions: partitions.models[2]),
    },
)
def policies(
    base_policy: pd.DataFrame,
    model_1: pd.DataFrame,
    model_2: pd.DataFrame,
    method: str,
    trained: TrainedModel | None,
) -> pd.DataFrame:
    """Which policy writes the personas of a method; the methods that only prompt the chat model have none."""
    columns = ["method", "recipe", "iteration", "model", "file", "sha256"]
    if method in PROMPT_METHODS:
        rows = pd.DataFrame(columns=columns)
    elif base_policy.empty:
        raise DeeperError(f"method {method!r} needs the table 'base_policy'; make it with `deeper run`")
    elif trained is None:
        base = f"base-{identity(base_policy)}"
        rows = pd.DataFrame([(method, None, None, base, None, None)], columns=columns)
    else:
        adapter = pd.concat([model_1, model_2])
        model = f"base-{identity(base_policy)}+{identity(adapter)}"
        rows = adapter.assign(method=method, iteration=trained.iteration, model=model)[columns]
    return rows.astype({"iteration": "Int64"})


def _preferences(
    recipe: Recipe, pairs: pd.DataFrame, groups: pd.DataFrame, validation: ValidationSplit
) -> list[Output[pd.DataFrame]]:
    """Groups are kept only where the recipe's loss looks at them: they repeat every candidate's text."""
    if recipe.loss == "pairwise":
        groups = groups.iloc[:0]
    return [
        Output(mark_validation(rows, validation), metadata={**figures(rows), **_by_origin(rows)})
        for rows, figures in ((pairs, pair_figures), (groups, group_figures))
    ]


def _by_origin(rows: pd.DataFrame) -> dict[str, int]:
    counts = (rows["domain"] + ", " + rows["origin"]).value_counts(sort=False)
    return {str(of): int(count) for of, count in counts.items()}


def trained_output(trained: Trained, columns: Mapping[str, str], reference: str) -> Output[pd.DataFrame]:
    """An adapter's files as rows that have these columns too, and how its training went."""
    endings = trained.report.get("endings", {})
    return Output(
        trained.rows.assign(**columns, ended=endings.get("ended")),
        metadata={
            "loss curve": MetadataValue.md(as_markdown(loss_plot(trained.history), "loss by step")),
            **training_figures(trained.history),
            **ending_figures(endings),
            "report": MetadataValue.json(trained.report),
            "trained on": trained.report["trained"],
            "reference": reference,
            "identity": identity(trained.rows),
        },
    )
